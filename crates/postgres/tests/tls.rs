//! TLS to the database: demanded, verified, and refused from a stranger.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use edgeward_postgres::{DatabaseUrl, Listen, PostgresOptions, PostgresStore, SchemaName, migrate};
use edgeward_services::Postgres;
use edgeward_store::conformance;
use edgeward_store::fleet::Changes as _;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use support::{EDGE, PASSWORD, options};

/// Puts a file into the server's folder, as the server's own user, and only for it.
fn hand_in(server: &Postgres, name: &str, text: &str) {
    let write = format!(
        "COPY (SELECT unnest(string_to_array('{text}', E'\\n')))
         TO PROGRAM 'umask 077; cat > {name}'"
    );
    server.psql(&server.url(), &write).unwrap();
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_reached_by_tls_and_a_stranger_is_not() {
    let server = Postgres::start().unwrap();
    let admin = server.create_database("app").unwrap();
    migrate(&DatabaseUrl::new(&admin), &SchemaName::default()).await.unwrap();
    server.psql(&admin, &format!("ALTER ROLE {EDGE} PASSWORD '{PASSWORD}'")).unwrap();
    let (ours, strangers) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &ours).unwrap();
    let plain = server.url_for(EDGE, PASSWORD, "app");
    let open = |query: String| {
        PostgresStore::open(PostgresOptions {
            listen: Listen::Database,
            ..options(&format!("{plain}?{query}"), "node-1")
        })
    };
    let refused = open("sslmode=require".into()).await;
    assert!(refused.is_err(), "the server has no TLS yet");

    hand_in(&server, "server.crt", &certificate.pem());
    hand_in(&server, "server.key", &key.serialize_pem());
    server.psql(&server.url(), "ALTER SYSTEM SET ssl = on").unwrap();
    server.restart().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let our_root = write(folder.path(), "ours.pem", &ours.pem());
    let strange_root = write(folder.path(), "strangers.pem", &strangers.pem());

    for query in
        ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={our_root}")]
    {
        let store = open(query.clone()).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        tokio::time::timeout(Duration::from_secs(60), store.stirred()).await.unwrap();
        let bare = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                    WHERE usename = 'edgeward_edge' AND NOT ssl";
        assert_eq!(server.psql(&admin, bare).unwrap(), "0", "{query}");
        server.psql(&admin, "TRUNCATE cogo.bus_events").unwrap();
        conformance::events(&store).await;
    }
    for query in
        [format!("sslmode=verify-full&sslrootcert={strange_root}"), "sslmode=verify-full".into()]
    {
        let refused = open(query.clone()).await.map(drop);
        assert!(refused.is_err(), "{query}");
    }
}
