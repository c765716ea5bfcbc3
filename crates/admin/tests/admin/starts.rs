//! What a start makes, what it leaves alone, and what a stop takes away.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::common::Place;
use edgeward_admin::{AdminServer, BindError};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_start_makes_a_private_folder_socket_and_token() {
    let place = Place::new();
    let running = place.start().await;
    assert_eq!(mode(place.socket().parent().unwrap()), 0o700);
    assert_eq!(mode(&place.socket()), 0o600);
    assert_eq!(mode(&place.token_file()), 0o600);
    running.stop().await;
}

#[tokio::test]
async fn the_next_start_has_the_same_token() {
    let place = Place::new();
    place.start().await.stop().await;
    let token = place.token();
    let running = place.start().await;
    assert_eq!(place.token(), token);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(running.tcp("GET /healthz", &[&bearer]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_token_file_that_others_may_read_stops_the_start_and_leaves_no_socket() {
    let place = Place::new();
    place.start().await.stop().await;
    fs::set_permissions(place.token_file(), Permissions::from_mode(0o644)).unwrap();
    let refused = place.bind().await.unwrap_err();
    assert!(matches!(refused, BindError::Token(_)));
    assert!(refused.to_string().contains("chmod 600"));
    assert!(!refused.to_string().contains(&place.token()));
    assert!(!place.socket().exists());
}

#[tokio::test]
async fn a_stop_removes_the_socket_and_no_other_file() {
    let place = Place::new();
    let running = place.start().await;
    assert!(place.socket().exists());
    running.stop().await;
    assert!(!place.socket().exists());

    let running = place.start().await;
    fs::remove_file(place.socket()).unwrap();
    let successor = UnixListener::bind(place.socket()).unwrap();
    running.stop().await;
    assert!(place.socket().exists(), "another process's socket was removed");
    drop(successor);
}

#[tokio::test]
async fn a_socket_that_nobody_accepts_on_is_replaced() {
    let place = Place::new();
    place.start().await.stop().await;
    drop(UnixListener::bind(place.socket()).unwrap());
    assert!(place.socket().exists());
    let running = place.start().await;
    assert_eq!(running.unix("GET /healthz", &[]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_socket_that_is_served_is_left_to_its_process() {
    let place = Place::new();
    let running = place.start().await;
    let refused = place.bind().await.unwrap_err();
    assert!(matches!(&refused, BindError::InUse { path } if *path == place.socket()));
    assert!(refused.to_string().contains("another process"));
    assert_eq!(running.unix("GET /healthz", &[]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let place = Place::new();
    place.start().await.stop().await;
    fs::write(place.socket(), "notes").unwrap();
    let refused = place.bind().await.unwrap_err();
    assert!(matches!(refused, BindError::NotASocket { .. }));
    assert_eq!(fs::read_to_string(place.socket()).unwrap(), "notes");
}

#[tokio::test]
async fn of_two_starts_at_once_one_waits_for_a_better_moment() {
    let place = Place::new();
    place.start().await.stop().await;
    let lock = place.socket().with_file_name("admin.sock.lock");
    let held = fs::OpenOptions::new().write(true).open(lock).unwrap();
    held.lock().unwrap();
    assert!(matches!(place.bind().await.unwrap_err(), BindError::Starting { .. }));
    drop(held);
    place.start().await.stop().await;
}

#[tokio::test]
async fn a_folder_that_others_reach_into_is_refused_and_not_changed() {
    let place = Place::new();
    let folder = place.socket().parent().unwrap().to_owned();
    fs::create_dir(&folder).unwrap();
    for exposed in [0o755, 0o710, 0o701] {
        fs::set_permissions(&folder, Permissions::from_mode(exposed)).unwrap();
        let refused = place.bind().await.unwrap_err();
        assert!(matches!(refused, BindError::FolderExposed { mode, .. } if mode == exposed));
        assert!(refused.to_string().contains("chmod 700"));
        assert_eq!(mode(&folder), exposed);
    }
}

#[tokio::test]
async fn beyond_loopback_is_refused_before_anything_is_made() {
    let place = Place::new();
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0", "[::ffff:192.0.2.1]:0"] {
        let mut config = place.config();
        config.tcp = Some(address.parse().unwrap());
        let refused = AdminServer::bind(config).await.unwrap_err();
        assert!(matches!(refused, BindError::BeyondLoopback { .. }), "{address}");
    }
    assert!(!place.socket().exists() && !place.token_file().exists());
}
