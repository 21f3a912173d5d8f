//! The replacement of the TLS client in a build without TLS.

use std::{convert::Infallible, io};

use tokio::net::TcpStream;

use super::TlsProblem;
use crate::address::TlsFiles;

/// Cannot be created.
#[derive(Clone)]
pub(crate) struct TlsClient(Infallible);

impl TlsClient {
    pub(crate) fn new(_: &TlsFiles) -> Result<Self, TlsProblem> {
        Err(TlsProblem::NotBuilt)
    }

    pub(crate) const fn has_client_certificate(&self) -> bool {
        match self.0 {}
    }

    pub(crate) async fn connect(&self, _: &str, _: TcpStream) -> io::Result<TcpStream> {
        match self.0 {}
    }
}
