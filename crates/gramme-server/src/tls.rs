//! Mutual TLS between peers: both sides show a certificate of the cluster's authority.
//!
//! A secured connection may change hands as a plain one does. A socket belongs to the event loop of one thread, so it is
//! taken out of its stream, and put in again by the other thread.

use crate::settings::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
    pub(crate) async fn connect(&self, address: &str, socket: TcpStream) -> io::Result<Secured> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Secured(self.connector.connect(name, Socket(Some(socket))).await?.into()))
    }

    /// Secures a connection that another opened.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<Secured> {
        Ok(Secured(self.acceptor.accept(Socket(Some(socket))).await?.into()))
    }
}

/// A secured connection.
#[derive(Debug)]
pub(crate) struct Secured(TlsStream<Socket>);

impl Secured {
    /// Takes the socket out, for another thread to put in again; until then nothing can be read or written.
    pub(crate) fn take_socket(&mut self) -> io::Result<std::net::TcpStream> {
        self.0.get_mut().0.0.take().ok_or_else(is_out)?.into_std()
    }

    /// Puts the socket in.
    pub(crate) fn put_socket(&mut self, socket: std::net::TcpStream) -> io::Result<()> {
        self.0.get_mut().0.0 = Some(TcpStream::from_std(socket)?);
        Ok(())
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// The socket under a secured connection, unless it is on its way to another thread.
#[derive(Debug)]
struct Socket(Option<TcpStream>);

impl Socket {
    fn inside(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.0.as_mut().map(Pin::new).ok_or_else(is_out)
    }
}

fn is_out() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket is on its way to another thread")
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inside()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inside()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inside()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inside()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inside()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.as_ref().is_some_and(TcpStream::is_write_vectored)
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |e| format!("{key} {} holds no certificates: {e}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(format!("{key} {} holds no certificates", path.display())) } else { Ok(found) }
}
