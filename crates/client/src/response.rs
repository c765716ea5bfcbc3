//! An answer: the upstream's, or the edge's own that is no refusal.

use bytes::Bytes;
use edgeward_wire::{Problem, header};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::{Error, Refusal, Result};

/// The largest body of the edge's own answers, bytes.
const MAX_OWN_BODY: usize = 64 * 1024;

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Response(reqwest::Response);

impl Response {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self(response)
    }

    /// The status. A refusal of the edge is never here: it is [`Error::Refused`].
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The request's trace, as whoever runs the edge can find it.
    pub fn trace_id(&self) -> Option<&str> {
        text_of(self.headers(), &header::X_TRACE_ID)
    }

    /// The next piece of the body as it comes; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.0.chunk().await.map_err(|source| Error::Transport { during: "reading", source })
    }

    /// The whole body. There is no limit to its size: the upstream is trusted here.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn bytes(self) -> Result<Bytes> {
        self.0.bytes().await.map_err(|source| Error::Transport { during: "reading", source })
    }

    /// The whole body, read as JSON.
    ///
    /// # Errors
    /// When the connection breaks off or the body is not such JSON.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|error| Error::Protocol(error.to_string()))
    }
}

/// Tells a refusal of the edge from any other answer. Only `X-Edgeward-Code` makes a refusal: an
/// upstream can send a problem of its own, and nothing is done about that here.
pub(crate) async fn refusal(
    mut response: reqwest::Response,
) -> Result<std::result::Result<reqwest::Response, Box<Refusal>>> {
    let status = response.status();
    let code = text_of(response.headers(), &header::X_EDGEWARD_CODE).map(str::to_owned);
    let Some(code) = code.filter(|_| status.is_client_error() || status.is_server_error()) else {
        return Ok(Ok(response));
    };
    // A body that is missing (HEAD) or broken takes nothing away from the header.
    let body = own_body(&mut response).await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&body).ok();
    let mut refusal = Refusal::from_problem(code, status.as_u16(), problem);
    if refusal.trace_id.is_none() {
        refusal.trace_id = text_of(response.headers(), &header::X_TRACE_ID).map(str::to_owned);
    }
    if refusal.retry_after_ms.is_none() {
        refusal.retry_after_ms = text_of(response.headers(), &http::header::RETRY_AFTER)
            .and_then(|seconds| seconds.parse::<u64>().ok())
            .map(|seconds| seconds.saturating_mul(1000));
    }
    Ok(Err(Box::new(refusal)))
}

/// Reads one of the edge's own answers; its text is wiped, since it may hold secrets.
pub(crate) async fn own_json<T: DeserializeOwned>(mut response: reqwest::Response) -> Result<T> {
    let status = response.status();
    if !status.is_success() {
        return Err(Error::Protocol(format!(
            "status {status} without an edge's code; is this the URL of an edge?"
        )));
    }
    let body = own_body(&mut response).await?;
    serde_json::from_slice(&body).map_err(|error| {
        // Only the place: the message could quote a secret.
        Error::Protocol(format!("not the JSON of this call (column {})", error.column()))
    })
}

async fn own_body(response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|source| Error::Transport { during: "reading the edge's answer", source })?
    {
        if body.len() + chunk.len() > MAX_OWN_BODY {
            return Err(Error::Protocol("an answer over 64 KiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(crate) fn text_of<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
