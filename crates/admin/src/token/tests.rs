use edgeward_keys::SystemEntropy;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_first_start_makes_a_private_file_and_later_ones_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("operator.token");
    let made = OperatorToken::make_file(&path, &SystemEntropy).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let again = OperatorToken::make_file(&path, &SystemEntropy).unwrap();
    assert_eq!(made.as_str(), again.as_str());
    assert!(made.as_str().starts_with("ewop_") && made.as_str().len() == 48);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft was left");

    let other = folder.path().join("other.token");
    let other = OperatorToken::make_file(&other, &SystemEntropy).unwrap();
    assert_ne!(made.as_str(), other.as_str());
}

#[test]
fn starts_at_once_get_one_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operator.token");
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| OperatorToken::make_file(&path, &SystemEntropy).unwrap()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap().as_str().to_owned()).collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0]));
}

#[test]
fn a_file_that_others_may_read_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operator.token");
    OperatorToken::make_file(&path, &SystemEntropy).unwrap();
    for exposed in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
        let refused = OperatorToken::make_file(&path, &SystemEntropy).unwrap_err();
        assert!(matches!(refused, TokenError::Exposed { mode, .. } if mode == exposed));
        let message = refused.to_string();
        assert!(message.contains("chmod 600") && message.contains("delete it"), "{message}");
    }
}

#[test]
fn a_file_that_holds_something_else_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operator.token");
    private_file::create(&path, b"ewop_short\n", [1; 8]).unwrap();
    let refused = OperatorToken::make_file(&path, &SystemEntropy).unwrap_err();
    assert!(matches!(refused, TokenError::Form { .. }));
    assert!(!refused.to_string().contains("short"));
    assert_eq!(fs::read(&path).unwrap(), b"ewop_short\n");
}

#[test]
fn a_token_has_one_form() {
    let good = format!("ewop_{}", "A".repeat(43));
    assert!(OperatorToken::parse(&good).is_some());
    for bad in [
        "A".repeat(43),
        format!("ewop_{}", "A".repeat(42)),
        format!("ewop_{}B", "A".repeat(42)),
        format!("ewop_{}=", "A".repeat(43)),
        format!("{good} "),
    ] {
        assert!(OperatorToken::parse(&bad).is_none(), "{bad}");
    }
}

#[test]
fn only_the_token_is_recognised_and_none_is_printed() {
    let token = OperatorToken::parse(&format!("ewop_{}", "A".repeat(43))).unwrap();
    let hash = token.hash();
    assert!(hash.recognises(token.as_str()));
    assert!(!hash.recognises("") && !hash.recognises(&token.as_str()[..47]));
    let shown = format!("{token:?} {hash:?}");
    assert!(!shown.contains("AAAA") && shown.contains(&hash.fingerprint()), "{shown}");
    assert_eq!(hash.fingerprint().len(), 8);
}
