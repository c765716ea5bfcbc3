use std::path::PathBuf;

use super::*;
use crate::entropy::SystemEntropy;
use crate::testing::NoEntropy;

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn raw() -> Vec<u8> {
    (0..32).collect()
}

#[cfg(unix)]
fn file(folder: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join(format!("kek-{mode:o}-{}", content.len()));
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn raw_hex_and_base64_are_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let expected = Kek::from_text(HEX).unwrap().fingerprint();
    for content in [
        raw(),
        HEX.as_bytes().to_vec(),
        format!("{}\n", HEX.to_uppercase()).into_bytes(),
        format!("{BASE64}\r\n").into_bytes(),
    ] {
        let kek = Kek::from_file(&file(&folder, &content, 0o600)).unwrap();
        assert_eq!(kek.fingerprint(), expected);
    }
    assert_eq!(Kek::from_text(BASE64).unwrap().fingerprint(), expected);
}

#[test]
fn other_forms_are_refused_and_not_shown() {
    for text in [
        "",
        "correct horse battery staple",
        &HEX[..63],
        &HEX.replace('f', "g"),
        &format!("+{}", &HEX[1..]),
        &BASE64.replace('=', "A"),
        &format!("{HEX}0"),
        &format!("ß{}", &HEX[2..]),
    ] {
        let fault = Kek::from_text(text).unwrap_err();
        assert!(matches!(fault, KeysError::KekForm(_)));
        assert!(text.is_empty() || !fault.to_string().contains(text), "{fault}");
    }
    assert!(Kek::from_text(&"00".repeat(32)).is_err());
    assert!(Kek::from_text(&"7f".repeat(32)).is_err());
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_reach_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o400] {
        Kek::from_file(&file(&folder, &raw(), mode)).unwrap();
    }
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o444] {
        let path = file(&folder, &raw(), mode);
        let fault = Kek::from_file(&path).unwrap_err();
        assert_eq!(fault, KeysError::KekExposed { path: path.clone(), mode });
        let text = fault.to_string();
        assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
        assert!(text.contains(&format!("{mode:04o}")), "{text}");
    }
}

#[test]
fn no_file_and_no_regular_file_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    let absent = Kek::from_file(&folder.path().join("absent")).unwrap_err();
    assert!(matches!(absent, KeysError::KekFile { .. }), "{absent}");
    let directory = Kek::from_file(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("not a regular file"), "{directory}");
}

#[cfg(unix)]
#[test]
fn a_generated_file_is_private_whole_and_stays() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    let first = Kek::generate_file(&path, &SystemEntropy).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    // Without randomness: it can only have been read back.
    let again = Kek::generate_file(&path, &NoEntropy).unwrap();
    assert_eq!(first.fingerprint(), again.fingerprint());
    let other = Kek::generate_file(&folder.path().join("other"), &SystemEntropy).unwrap();
    assert_ne!(first.fingerprint(), other.fingerprint());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "no draft stays");
    assert!(Kek::generate_file(&folder.path().join("none"), &NoEntropy).is_err());
}

#[test]
fn a_file_that_came_first_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    std::fs::write(&path, HEX).unwrap();
    make_file(&path, &SystemEntropy).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), HEX);
}

#[test]
fn of_many_starts_at_once_all_read_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    let start = std::sync::Barrier::new(8);
    let prints: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    Kek::generate_file(&path, &SystemEntropy).unwrap().fingerprint()
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
}

#[tokio::test]
async fn a_data_key_opens_under_its_kek_and_id_alone() {
    let kek = Kek::from_text(HEX).unwrap();
    let key = DataKey::new([0x42; 32]);
    let wrapped = kek.wrap(&[7; 16], &key, &SystemEntropy).await.unwrap();
    assert_eq!(wrapped.0.len(), 12 + 32 + 16);
    assert_eq!(kek.unwrap(&[7; 16], &wrapped).await.unwrap(), key);
    assert_eq!(
        kek.unwrap(&[8; 16], &wrapped).await.unwrap_err(),
        KeysError::DataKey("08".repeat(16))
    );
    assert!(crate::testing::kek(9).unwrap(&[7; 16], &wrapped).await.is_err());
    for at in 0..wrapped.0.len() {
        let mut altered = wrapped.clone();
        altered.0[at] ^= 1;
        assert!(kek.unwrap(&[7; 16], &altered).await.is_err(), "byte {at}");
    }
    for length in 0..wrapped.0.len() {
        let cut = Sealed(wrapped.0[..length].to_vec());
        assert!(kek.unwrap(&[7; 16], &cut).await.is_err(), "{length} bytes");
    }
    let again = kek.wrap(&[7; 16], &key, &SystemEntropy).await.unwrap();
    assert_ne!(wrapped, again, "a nonce of its own each time");
    assert!(kek.wrap(&[7; 16], &key, &NoEntropy).await.is_err());
}

#[test]
fn the_fingerprint_tells_keys_apart_and_debug_shows_no_more() {
    let kek = Kek::from_text(HEX).unwrap();
    let print = kek.fingerprint();
    // SHA-256 of the label, a zero byte and the key, by another implementation.
    assert_eq!(print, "b4420e9029df080d");
    assert!(!HEX.contains(&print));
    assert_ne!(print, crate::testing::kek(9).fingerprint());
    assert_eq!(format!("{kek:?}"), format!("Kek({print})"));
}
