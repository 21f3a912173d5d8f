//! The answer of a target that refused a message, as its store keeps it with the receipt.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Rejection, RejectionKind};

/// The maximum size of an answer in bytes. A longer rejection is shortened to its kind.
const MAX_ANSWER_BYTES: usize = 4096;

#[derive(Serialize, Deserialize)]
struct StoredRejection<'a> {
    kind: Cow<'a, str>,
    message: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Encodes a rejection.
pub(in crate::registry) fn encode_answer(rejection: &Rejection) -> Bytes {
    let fields = rejection.fields().map(|(name, message)| (name.into(), message.into())).collect();
    let kind = name_of(rejection.kind());
    let whole = StoredRejection { kind: kind.into(), message: rejection.message().into(), fields };
    // Serialising strings cannot fail.
    let json = serde_json::to_vec(&whole).unwrap_or_default();
    if json.len() <= MAX_ANSWER_BYTES {
        return json.into();
    }
    let short = StoredRejection { kind: kind.into(), message: "rejected".into(), fields: Vec::new() };
    serde_json::to_vec(&short).unwrap_or_default().into()
}

/// Encodes a rejection for the outbox of the sender.
pub(in crate::registry) fn stored_answer(rejection: &Rejection) -> Option<Box<RawValue>> {
    serde_json::from_slice(&encode_answer(rejection)).ok()
}

/// Decodes an answer. An answer that a newer version of the application wrote may be a conflict without a text.
pub(in crate::registry) fn decode_answer(answer: &[u8]) -> Rejection {
    let Ok(StoredRejection { kind, message, fields }) = serde_json::from_slice(answer) else {
        return Rejection::conflict("rejected");
    };
    let message = message.into_owned();
    let rejection = match &*kind {
        "invalid" => Rejection::invalid(message),
        "forbidden" => Rejection::forbidden(message),
        "not_found" => Rejection::not_found(message),
        _ => Rejection::conflict(message),
    };
    fields
        .into_iter()
        .fold(rejection, |rejection, (name, message)| rejection.and(name.into_owned(), message.into_owned()))
}

const fn name_of(kind: RejectionKind) -> &'static str {
    match kind {
        RejectionKind::Invalid => "invalid",
        RejectionKind::Forbidden => "forbidden",
        RejectionKind::NotFound => "not_found",
        RejectionKind::Conflict => "conflict",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_survives_encoding_and_decoding() {
        for rejection in [
            Rejection::invalid("too \"little\"").field("amount").and("user", "unknown"),
            Rejection::forbidden("no"),
            Rejection::not_found(""),
            Rejection::conflict("not now"),
        ] {
            assert_eq!(decode_answer(&encode_answer(&rejection)), rejection);
        }
    }

    #[test]
    fn long_rejection_keeps_its_kind() {
        let answer = encode_answer(&Rejection::forbidden("x".repeat(MAX_ANSWER_BYTES)));
        assert!(answer.len() <= MAX_ANSWER_BYTES);
        assert_eq!(decode_answer(&answer), Rejection::forbidden("rejected"));
        assert_eq!(decode_answer(b"{}").kind(), RejectionKind::Conflict);
    }
}
