//! The listener with a certificate: HTTP/1.1 and HTTP/2 over TLS, and a certificate that changes.

use std::path::Path;
use std::sync::Arc;

use edgeward_testkit::agent::Parts;
use edgeward_testkit::{Agent, Answer, Builder, Conn, Enrolment, TestEdge, Upstream, raw, soon};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

pub(crate) fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(["edge.test".to_owned()]).unwrap();
    Certificate {
        der: made.cert.der().clone(),
        pem: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

pub(crate) fn write(folder: &Path, certificate: &Certificate) {
    std::fs::write(folder.join("cert.pem"), &certificate.pem).unwrap();
    std::fs::write(folder.join("key.pem"), &certificate.key).unwrap();
}

pub(crate) fn with_tls(plan: Builder, folder: &Path) -> Builder {
    plan.set("EDGE_TLS_CERT", folder.join("cert.pem").display())
        .set("EDGE_TLS_KEY", folder.join("key.pem").display())
}

async fn connect(
    edge: &TestEdge,
    trusted: &Certificate,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let tcp = TcpStream::connect(edge.address()).await.unwrap();
    let name = ServerName::try_from("edge.test").unwrap();
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

/// Sends a request over HTTP/2; the answer, and the trailers behind it.
pub(crate) async fn over_h2(
    edge: &TestEdge,
    trusted: &Certificate,
    parts: &Parts,
) -> (Answer, http::HeaderMap) {
    let tls = connect(edge, trusted, b"h2").await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(parts.method.as_str())
        .uri(format!("https://edge.test{}", parts.target));
    for (name, value) in parts.headers.iter().filter(|(name, _)| name != "Host") {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(bytes::Bytes::from(parts.body.clone()))).unwrap();
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let head = raw::Head { status: answer.status().as_u16(), headers };
    let body = soon("a body", answer.into_body().collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (Answer { head, body: body.to_bytes().to_vec() }, trailers)
}

/// Sends exact bytes over TLS.
pub(crate) async fn over_h1(edge: &TestEdge, trusted: &Certificate, bytes: &[u8]) -> Answer {
    let tls = connect(edge, trusted, b"http/1.1").await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    Conn::over(tls).exchange(bytes).await
}

pub(crate) async fn enroll(edge: &TestEdge, trusted: &Certificate) -> Agent {
    let plan = Enrolment::default();
    let post = async |target: &str, bearer: Option<String>, body: &serde_json::Value| {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.iter().map(|value| ("Authorization", value.as_str())));
        let bytes = raw::request("POST", target, &headers, body.to_string().as_bytes());
        over_h1(edge, trusted, &bytes).await.expect(200)
    };
    let bearer = Some(format!("Bearer {}", edge.owner_jwt("owner-1", &["demo"])));
    let started = post("/agent/enroll/start", bearer, &plan.start).await.json();
    let done = post("/agent/enroll/complete", None, &plan.completion(&started)).await;
    Agent::of(edge, done.json(), plan.device)
}

#[tokio::test]
async fn signed_calls_pass_over_both_versions_and_the_same_rules_hold() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificate();
    write(folder.path(), &own);
    let upstream = Upstream::start().await;
    let plan = TestEdge::builder().route("/v1/", &upstream);
    let edge = with_tls(plan, folder.path()).start().await;
    let agent = enroll(&edge, &own).await;

    let request = || agent.signed("POST", "/v1/x?y=%20").json(&json!({"a": 1}));
    over_h1(&edge, &own, &request().build()).await.expect(200);
    assert_eq!(upstream.last().all("x-forwarded-proto"), ["https"]);
    over_h2(&edge, &own, &request().parts()).await.0.expect(200);
    assert_eq!(upstream.last().target(), "/v1/x?y=%20");
    assert_eq!(upstream.last().all("x-forwarded-proto"), ["https"]);
    assert_eq!(upstream.last().body, br#"{"a":1}"#);
    assert_eq!(upstream.count(), 2);

    // What one version has used up, the other does not take.
    let once = request();
    over_h2(&edge, &own, &once.parts()).await.0.expect(200);
    let again = over_h1(&edge, &own, &once.build()).await;
    crate::problem::assert_refusal(&again, "nonce_replayed");
    for (parts, code) in [
        (request().wrong_signature().parts(), "signature_invalid"),
        (request().swapped_body("{}").parts(), "signature_invalid"),
        (request().swapped_target("/v1/x?y=%21").parts(), "signature_invalid"),
        (request().duplicate_header("X-Nonce").parts(), "request_malformed"),
        (agent.signed("GET", "/v1//x").parts(), "target_ambiguous"),
        (agent.signed("GET", "/v1/../x").parts(), "target_ambiguous"),
        (request().header("x_agent", "a").parts(), "request_malformed"),
        (request().header("host", "elsewhere.test").parts(), "request_malformed"),
    ] {
        let (answer, _) = over_h2(&edge, &own, &parts).await;
        crate::problem::assert_refusal(&answer, code);
    }
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn plain_text_is_not_served_where_there_is_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &certificate());
    let edge = with_tls(TestEdge::builder(), folder.path()).start().await;
    let mut conn = edge.connect().await;
    conn.try_send(&raw::request("GET", "/agent/healthz", &[], b"")).await;
    assert!(conn.try_head().await.is_none());
}

#[tokio::test]
async fn a_certificate_is_taken_up_anew_and_a_bad_one_leaves_the_last_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (certificate(), certificate());
    write(folder.path(), &first);
    let edge = with_tls(TestEdge::builder(), folder.path()).start().await;
    let health = raw::request("GET", "/agent/healthz", &[], b"");
    let mut kept = Conn::over(connect(&edge, &first, b"http/1.1").await.unwrap());
    kept.exchange(&health).await.expect(200);
    assert!(connect(&edge, &second, b"http/1.1").await.is_err());

    write(folder.path(), &second);
    edge.tls().unwrap().refresh();
    over_h1(&edge, &second, &health).await.expect(200);
    assert!(connect(&edge, &first, b"http/1.1").await.is_err());
    // Connections that are open go on.
    kept.exchange(&health).await.expect(200);

    std::fs::write(folder.path().join("cert.pem"), "nonsense").unwrap();
    edge.tls().unwrap().refresh();
    over_h1(&edge, &second, &health).await.expect(200);
    // A key that is not the certificate's is as bad.
    std::fs::write(folder.path().join("cert.pem"), &first.pem).unwrap();
    edge.tls().unwrap().refresh();
    over_h1(&edge, &second, &health).await.expect(200);
}

#[tokio::test]
async fn where_client_certificates_are_asked_for_nobody_else_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let own = certificate();
    write(folder.path(), &own);
    let authority = {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        rcgen::CertifiedIssuer::self_signed(params, key).unwrap()
    };
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let plan = with_tls(TestEdge::builder(), folder.path())
        .set("EDGE_TLS_CLIENT_CA", folder.path().join("ca.pem").display());
    let edge = plan.start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let client = rcgen::CertificateParams::new(vec!["agent.test".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.der.clone()).unwrap();
    let with = rustls::ClientConfig::builder().with_root_certificates(roots.clone());
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let with = with.with_client_auth_cert(vec![client.der().clone()], der.into()).unwrap();
    let without =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    for (config, served) in [(with, true), (without, false)] {
        let tcp = TcpStream::connect(edge.address()).await.unwrap();
        let name = ServerName::try_from("edge.test").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        // In TLS 1.3 a client learns of its refusal after its own handshake.
        let answered = match tls {
            Ok(tls) => {
                let mut conn = Conn::over(tls);
                conn.try_send(&raw::request("GET", "/agent/healthz", &[], b"")).await;
                conn.try_head().await.is_some()
            }
            Err(_) => false,
        };
        assert_eq!(answered, served);
    }
}
