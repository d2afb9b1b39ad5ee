//! Mutual TLS between peers: both sides show a certificate of the cluster's authority.

use crate::settings::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// This node's side of TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads the files; the error is a sentence about the one that is wrong.
    pub(crate) fn load(files: &TlsFiles) -> Result<Tls, String> {
        let chain = certificates("tls.cert", &files.cert)?;
        let key = || {
            PrivateKeyDer::from_pem_file(&files.key)
                .map_err(|e| format!("tls.key {} holds no private key: {e}", files.key.display()))
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("tls.ca", &files.ca)? {
            roots.add(root).map_err(|e| format!("tls.ca {} is no authority: {e}", files.ca.display()))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| format!("tls.ca {} cannot be used: {e}", files.ca.display()))?;
        let unfit = |e: rustls::Error| {
            format!("tls.cert {} and tls.key {} do not fit: {e}", files.cert.display(), files.key.display())
        };
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key()?)
            .map_err(unfit)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key()?)
            .map_err(unfit)?;
        Ok(Tls { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }

    /// Secures a connection that this node opened to `host:port`; the peer's certificate must name the host.
    pub(crate) async fn connect(&self, address: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(self.connector.connect(name, socket).await?.into())
    }

    /// Secures a connection that another opened.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        Ok(self.acceptor.accept(socket).await?.into())
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |e| format!("{key} {} holds no certificates: {e}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(format!("{key} {} holds no certificates", path.display())) } else { Ok(found) }
}
