//! TLS of a listener: certificate and key from PEM files, taken up again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

/// The largest plaintext that a connection's TLS holds back for a slow reader, in bytes.
const TLS_BUFFER: usize = 16 * 1024;

/// TLS files that do not make a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct TlsError {
    path: String,
    fault: String,
}

impl TlsError {
    fn new(path: &std::path::Path, fault: impl ToString) -> Self {
        Self { path: path.display().to_string(), fault: fault.to_string() }
    }
}

/// The files and what was last made of them.
#[derive(Debug)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    current: ArcSwap<(Arc<ServerConfig>, Stamps)>,
}

/// When the files last changed.
type Stamps = [Option<SystemTime>; 3];

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn open(
        cert: PathBuf,
        key: PathBuf,
        client_ca: Option<PathBuf>,
    ) -> Result<Arc<Self>, TlsError> {
        let stamps = stamps(&cert, &key, client_ca.as_ref());
        let config = configure(&cert, &key, client_ca.as_ref())?;
        let current = ArcSwap::from_pointee((Arc::new(config), stamps));
        Ok(Arc::new(Self { cert, key, client_ca, current }))
    }

    /// Takes the files up again if they changed; a bad new one leaves the last good one in place.
    /// Reads files: not to be called on a worker of the runtime.
    pub fn refresh(&self) {
        let stamps = stamps(&self.cert, &self.key, self.client_ca.as_ref());
        if stamps == self.current.load().1 {
            return;
        }
        match configure(&self.cert, &self.key, self.client_ca.as_ref()) {
            Ok(config) => {
                tracing::info!("the certificate was taken up anew");
                self.current.store(Arc::new((Arc::new(config), stamps)));
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate is not usable: the last good one stays");
            }
        }
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().0))
    }
}

/// Bounds what TLS holds back.
pub(crate) fn bound(connection: &mut rustls::ServerConnection) {
    connection.set_buffer_limit(Some(TLS_BUFFER));
}

fn stamps(cert: &PathBuf, key: &PathBuf, client_ca: Option<&PathBuf>) -> Stamps {
    let of = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [of(cert), of(key), client_ca.and_then(of)]
}

fn configure(
    cert: &PathBuf,
    key: &PathBuf,
    client_ca: Option<&PathBuf>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|fault| TlsError::new(key, fault))?;
    let builder = ServerConfig::builder();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|fault| TlsError::new(path, fault))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .map_err(|fault| TlsError::new(path, fault))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, private).map_err(|fault| TlsError::new(cert, fault))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|fault| TlsError::new(path, fault))?;
    if chain.is_empty() { Err(TlsError::new(path, "holds no certificate")) } else { Ok(chain) }
}
