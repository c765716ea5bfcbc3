//! The decision matrix: credentials × destination × what stores say × the deployment.
//!
//! Each cell is decided twice: by the flow, compared with a golden file that people read, and, as
//! to passing or not, by the plain rules of [`may_pass`].

mod axes;
mod credentials;

use std::fmt::Write as _;

use axes::{Ask, Deployment, Place, Stops, World, deployments, places, worlds};
use credentials::{Bearer, Credential, Proves, credentials};

use crate::policy::{BodySignatures, DeviceProof};
use crate::tests::forge::{Forge, agent_id, scopes};
use crate::tests::golden;

fn verdict(credential: &Credential, place: &Place, world: &World) -> &'static str {
    (world.2)(credential.2.clone().to(place.target)).verdict()
}

/// All credentials, each with a request to this deployment.
fn credentials_for(deployment: &Deployment) -> Vec<Credential> {
    let all = credentials().into_iter();
    all.map(|(name, truth, forge)| (name, truth, (deployment.1)(forge))).collect()
}

/// The rules of the protocol as to who may pass, apart from the code that decides.
fn may_pass((_, truth, forge): &Credential, place: &Place, world: &World) -> bool {
    let policy = &forge.policy;
    let in_session = truth.proves == Proves::Session;
    let takes = match truth.proves {
        Proves::Nothing => false,
        Proves::Session | Proves::Secret => !truth.legacy,
        Proves::Token => !policy.require_hmac && (!place.own || place.name == "echo"),
        Proves::HeaderSecret => policy.allow_header_secret && !place.own && !truth.legacy,
        Proves::Body => policy.body_signatures == BodySignatures::Taken && !place.own,
    };
    let asks_session = place.session == Ask::Yes
        || policy.session_required && (!place.own || place.name == "echo");
    let session_holds = match place.session {
        Ask::Never => !in_session,
        Ask::Yes | Ask::Sessionless | Ask::No | Ask::Ignored => in_session || !asks_session,
    };
    // A nonce is asked of the edge's own signed calls; a token alone signs nothing.
    let unsigned_echo = place.name == "echo" && truth.proves == Proves::Token;
    let asks_nonce = place.nonce && !unsigned_echo || policy.require_nonce;
    let nonce_holds = truth.nonce || !asks_nonce;
    let looked_at =
        truth.proves == Proves::Token || policy.verify_jwt && place.token != Ask::Ignored;
    let due = match place.token {
        Ask::Yes => true,
        Ask::Sessionless => !in_session || world.1 == Stops::Tokenless,
        Ask::No | Ask::Ignored | Ask::Never => false,
    };
    let token_holds = match truth.token {
        Bearer::Good => !looked_at || world.1 != Stops::Earlier,
        Bearer::None => !(looked_at && due),
        Bearer::Bad => !looked_at,
    };
    let proof_holds = policy.device_proof == DeviceProof::Rotation
        || in_session
        || !matches!(place.name, "start" | "refresh");
    let stopped = match world.1 {
        Stops::Everybody => true,
        Stops::Sessions | Stops::Earlier => in_session,
        Stops::Nobody | Stops::Tokenless => false,
    };
    let keyless = world.0 == "no secrets"
        && matches!(truth.proves, Proves::Secret | Proves::HeaderSecret | Proves::Body);
    takes
        && place.reachable
        && session_holds
        && nonce_holds
        && token_holds
        && proof_holds
        && !stopped
        && !keyless
}

#[test]
fn passing_follows_from_the_plain_rules() {
    let (mut passed, mut cells) = (0, 0);
    let (places, worlds) = (places(), worlds());
    for deployment in deployments() {
        let credentials = credentials_for(&deployment);
        for world in &worlds {
            for place in &places {
                for credential in &credentials {
                    let passes = verdict(credential, place, world) == "ok";
                    assert_eq!(
                        passes,
                        may_pass(credential, place, world),
                        "{} at {}, {}, {}",
                        credential.0,
                        place.name,
                        world.0,
                        deployment.0
                    );
                    passed += u32::from(passes);
                    cells += 1;
                }
            }
        }
    }
    assert!(passed > 1000 && cells > 50_000, "{passed} of {cells}");
}

fn render(
    out: &mut String,
    title: &str,
    base: Option<&[Vec<&'static str>]>,
    cells: &[Vec<&'static str>],
) {
    let (credentials, places) = (credentials(), places());
    let shown = |row: usize, column: usize| match base {
        Some(base) if base[row][column] == cells[row][column] => ".",
        _ => cells[row][column],
    };
    let widths: Vec<usize> = (0..places.len())
        .map(|column| {
            (0..credentials.len())
                .map(|row| shown(row, column).len())
                .chain([places[column].name.len()])
                .max()
                .unwrap()
        })
        .collect();
    let mut line = " ".repeat(28);
    for (place, width) in places.iter().zip(&widths) {
        write!(line, "  {:width$}", place.name).unwrap();
    }
    writeln!(out, "## {title}\n\n{}", line.trim_end()).unwrap();
    for (row, credential) in credentials.iter().enumerate() {
        if base.is_some() && (0..places.len()).all(|column| shown(row, column) == ".") {
            continue;
        }
        let mut line = format!("{:28}", credential.0);
        for (column, width) in widths.iter().enumerate() {
            write!(line, "  {:width$}", shown(row, column)).unwrap();
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push('\n');
}

#[test]
fn the_matrix_is_the_golden_one() {
    let decide = |world: &World, deployment: &Deployment| -> Vec<Vec<&'static str>> {
        credentials_for(deployment)
            .iter()
            .map(|one| places().iter().map(|place| verdict(one, place, world)).collect())
            .collect()
    };
    let (worlds, deployments) = (worlds(), deployments());
    let base = decide(&worlds[0], &deployments[0]);
    let mut out = String::from(
        "# Decisions by credentials and destination\n\n\
         The first table is whole. Of the others a point stands for: as in the first, and a row of\n\
         nothing but points is left out.\n\n",
    );
    render(&mut out, "production; everything known", None, &base);
    for world in &worlds[1..] {
        let cells = decide(world, &deployments[0]);
        render(&mut out, &format!("production; {}", world.0), Some(&base), &cells);
    }
    for deployment in &deployments[1..] {
        let cells = decide(&worlds[0], deployment);
        render(&mut out, &format!("{}; everything known", deployment.0), Some(&base), &cells);
    }
    golden::compare("decisions.txt", &out);
}

#[test]
fn the_scopes_of_the_matrix_are_what_they_say() {
    let admission = Forge::in_session().to("/scoped").run().unwrap();
    assert_eq!(admission.caller.agent.scopes[..], scopes(&["chat", "read"]));
    assert_eq!(admission.caller.agent.id, agent_id());
}
