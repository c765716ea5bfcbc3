//! The routes. Who calls has been settled by the gate before any of these is reached.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde_json::json;

use crate::gate::Trace;
use crate::refusal::Refusal;
use crate::source::{Check, Readiness, Source};
use crate::standing;

/// How long the source may take to say whether it is ready.
const READINESS: Duration = Duration::from_secs(2);

/// All routes, over this source.
pub(crate) fn router(source: Arc<dyn Source>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/agents/{id}/block", post(standing::block))
        .route("/agents/{id}/unblock", post(standing::unblock))
        .route("/agents/{id}/retire", post(standing::retire))
        .fallback(unknown)
        .method_not_allowed_fallback(other_method)
        .with_state(source)
}

/// That this answers at all is the answer.
async fn healthz() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

async fn readyz(State(source): State<Arc<dyn Source>>) -> Response {
    let readiness = match tokio::time::timeout(READINESS, source.readiness()).await {
        Ok(readiness) => readiness,
        Err(_) => Readiness::of(vec![Check::failed(
            "readiness",
            format!("no answer within {} ms", READINESS.as_millis()),
        )]),
    };
    let status = if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn status(State(source): State<Arc<dyn Source>>) -> Response {
    Json(source.status().await).into_response()
}

async fn unknown(Extension(Trace(trace)): Extension<Trace>) -> Response {
    Refusal::RouteUnknown.response(trace)
}

async fn other_method(Extension(Trace(trace)): Extension<Trace>) -> Response {
    Refusal::MethodNotAllowed.response(trace)
}
