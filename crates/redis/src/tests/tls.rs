//! TLS to servers.

use edgeward_services::{Redis, RedisOptions as ServerOptions, RedisTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::options::TlsOptions;
use crate::start::StartError;

/// A folder with an authority, a server's certificate by it for these names, and another authority.
fn certificates(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = |file: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("an authority");
        std::fs::write(folder.path().join(file), issuer.pem()).expect("written");
        issuer
    };
    let issuer = authority("ca.pem");
    authority("other.pem");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names)
        .expect("names")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    std::fs::write(folder.path().join("server.pem"), certificate.pem()).expect("written");
    std::fs::write(folder.path().join("server.key"), key.serialize_pem()).expect("written");
    folder
}

fn server_with(folder: &tempfile::TempDir) -> Redis {
    let tls = RedisTls {
        certificate: folder.path().join("server.pem"),
        key: folder.path().join("server.key"),
        authority: folder.path().join("ca.pem"),
    };
    Redis::start(ServerOptions { tls: Some(tls), ..ServerOptions::default() }).expect("Redis")
}

fn trusting(server: &Redis, ca: Option<std::path::PathBuf>) -> RedisOptions {
    let address = server.tls_address().expect("TLS");
    RedisOptions { tls: Some(TlsOptions { ca }), ..options_of(address) }
}

async fn refused(options: RedisOptions) -> StartError {
    let listener = Arc::new(Recorder::default());
    Hub::start(options, FirstStart::Fresh, listener).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_the_file_vouches_for_is_used_and_no_other() {
    let folder = certificates(&["127.0.0.1"]);
    let server = server_with(&folder);
    let (hub, _) =
        started(trusting(&server, Some(folder.path().join("ca.pem"))), FirstStart::Fresh).await;
    until("confirmed", || hub.confirmed_at().is_some()).await;
    hub.stop().await;

    for ca in [Some(folder.path().join("other.pem")), None] {
        let error = refused(trusting(&server, ca)).await;
        assert!(matches!(error, StartError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused() {
    let folder = certificates(&["redis.example.org"]);
    let server = server_with(&folder);
    let error = refused(trusting(&server, Some(folder.path().join("ca.pem")))).await;
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_certificates_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("written");
    for ca in [empty, folder.path().join("missing.pem")] {
        let options = RedisOptions {
            tls: Some(TlsOptions { ca: Some(ca) }),
            ..options_of(([127, 0, 0, 1], 1).into())
        };
        let error = refused(options).await;
        assert!(matches!(error, StartError::Roots { .. }), "{error}");
    }
}
