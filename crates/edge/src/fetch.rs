//! Fetching the owners' JWK set.

use async_trait::async_trait;
use edgeward_keys::FetchJwks;
use edgeward_keys::jwks::MAX_SET_BYTES;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// A JWK set at a URL.
pub(crate) struct JwksUrl {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<bytes::Bytes>>,
}

impl JwksUrl {
    /// Of this URL; it is `https`, or `http` on loopback.
    ///
    /// # Errors
    /// When it is no URL.
    pub(crate) fn new(url: &str) -> Result<Self, http::uri::InvalidUri> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            uri: url.parse()?,
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }
}

#[async_trait]
impl FetchJwks for JwksUrl {
    async fn fetch(&self) -> Result<Vec<u8>, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let response = self.client.request(request).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("the issuer answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_SET_BYTES).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes().to_vec())
    }
}

impl std::fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JwksUrl({})", self.uri)
    }
}
