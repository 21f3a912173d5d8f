//! Error messages for the terminal and the log.

/// The error and the chain of its sources, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", causes(cause)))
}
