//! TLS to servers.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::line::DialError;
use crate::options::TlsOptions;
use crate::start::StartError;

/// What makes TLS of a connection: certificates by the file's roots, or by the system's.
pub(crate) fn connector(options: Option<&TlsOptions>) -> Result<Option<TlsConnector>, StartError> {
    let Some(options) = options else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    match &options.ca {
        Some(path) => {
            let wrong =
                |detail: String| StartError::Roots { path: path.display().to_string(), detail };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("no certificate in it".to_owned()));
            }
        }
        None => {
            // one that cannot be read is one that is not trusted
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Roots { path: String::new(), detail: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

/// What the certificate must be for.
pub(crate) fn name_of(host: &str) -> Result<ServerName<'static>, DialError> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| DialError::Unreachable(format!("{host} is no name of a certificate")))
}
