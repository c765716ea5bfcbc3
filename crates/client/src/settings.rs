//! What an operator decides about an agent's client.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::{Error, Result};

/// How a client behaves; the default suits most.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// How far the edge's clock may be followed when it says that a timestamp is outside its
    /// window. Measured against this machine's clock, so corrections never add up. Default 5 min;
    /// zero never corrects.
    pub max_clock_correction: Duration,
    /// How often one call is sent at most when the edge asks to wait and try again. Default 4.
    pub tries: u32,
    /// The longest wait that a call accepts before its next try; if the edge asks for more, its
    /// refusal is handed back. Default 30 s.
    pub max_wait: Duration,
    /// How long connecting may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long the head of an answer may take. Bodies and streams have no limit. Default 120 s.
    pub head_timeout: Duration,
    /// How often in a row a stream may fail to come back before it ends. Default 20.
    pub stream_tries: u32,
    /// Certificates (PEM) to trust besides those of the system.
    pub trusted_pem: Option<Vec<u8>>,
    /// Whether an agent may be enrolled over plain HTTP to another machine, where its secret can be
    /// read on the way. Default false.
    pub allow_plain_http: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            max_clock_correction: Duration::from_secs(300),
            tries: 4,
            max_wait: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(120),
            stream_tries: 20,
            trusted_pem: None,
            allow_plain_http: false,
        }
    }
}

impl Settings {
    /// An HTTP client that sends a request where it was signed for, once, and nowhere else.
    pub(crate) fn http(&self) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("edgeward-client/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Sooner than servers close idle connections, so that no call meets a closing one.
            .pool_idle_timeout(Duration::from_secs(15))
            .connect_timeout(self.connect_timeout);
        if let Some(pem) = &self.trusted_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|source| Error::Transport { during: "reading certificates", source })?;
            builder = builder.tls_certs_merge(certificates);
        }
        builder.build().map_err(|source| Error::Transport { during: "setting up TLS", source })
    }
}
