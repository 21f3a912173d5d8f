//! The address of a SQLite database: a path, or a URL such as `sqlite:///var/lib/app/app.db?mode=rwc`.

use std::path::{Path, PathBuf};

use crate::address::{DatabaseAddressError, UrlParameters, decode};

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqliteAddress {
    pub(super) path: PathBuf,
    /// Whether a missing file is created.
    pub(super) may_create: bool,
}

impl SqliteAddress {
    /// Parses an address. Only a URL is percent-decoded; a path may contain any character.
    pub(super) fn parse(address: &Path) -> Result<Self, DatabaseAddressError> {
        let Some(url) = address.to_str().and_then(|text| text.strip_prefix("sqlite:")) else {
            return Ok(Self { path: address.to_owned(), may_create: true });
        };
        let url = url.strip_prefix("//").unwrap_or(url);
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let path = PathBuf::from(decode(path, "path")?);
        let mut parameters = UrlParameters::parse(query)?;
        let may_create = match parameters.take("mode").as_deref() {
            None | Some("rwc") => true,
            Some("rw") => false,
            Some("ro") => {
                let problem = "is `ro`, but a store must be able to save: use `rwc` or `rw`";
                return Err(DatabaseAddressError::parameter("mode", problem));
            }
            Some("memory") => {
                let problem = "is `memory`, which keeps nothing: use `faststate_core::MemoryStore`";
                return Err(DatabaseAddressError::parameter("mode", problem));
            }
            Some(_) => return Err(DatabaseAddressError::parameter("mode", "is neither `rwc` nor `rw`")),
        };
        parameters.refuse_others("`mode`")?;
        Ok(Self { path, may_create })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_and_path_lead_to_the_file() {
        for (address, path, may_create) in [
            ("app.db", "app.db", true),
            ("/data/50%25?.db", "/data/50%25?.db", true),
            ("sqlite:app.db", "app.db", true),
            ("sqlite://app.db", "app.db", true),
            ("sqlite:///data/app.db", "/data/app.db", true),
            ("sqlite:///data/app.db?mode=rwc", "/data/app.db", true),
            ("sqlite:///data/50%25%3F.db?mode=rw", "/data/50%?.db", false),
        ] {
            let expected = SqliteAddress { path: path.into(), may_create };
            assert_eq!(SqliteAddress::parse(Path::new(address)), Ok(expected), "{address}");
        }
    }

    #[test]
    fn refused_url_names_the_part() {
        for (address, part) in [
            ("sqlite:///data/%zz.db", "path"),
            ("sqlite:///data/app.db?mode=ro", "parameter `mode`"),
            ("sqlite:///data/app.db?mode=memory", "parameter `mode`"),
            ("sqlite:///data/app.db?mode=x", "parameter `mode`"),
            ("sqlite:///data/app.db?cache=shared", "parameter `cache`"),
        ] {
            assert_eq!(SqliteAddress::parse(Path::new(address)).unwrap_err().part, part, "{address}");
        }
    }
}
