//! The decision matrix: credentials × destination × what stores say × the deployment.
//!
//! Each cell is decided twice: by the flow, compared with a golden file that people read, and, as
//! to passing or not, by the plain rules of [`may_pass`].

use std::fmt::Write as _;

use edgeward_wire::AgentId;

use super::super::Outcome;
use crate::nonce::ClaimOutcome;
use crate::policy::{BodySignatures, DeviceProof};
use crate::record::{Fact, Standing};
use crate::tests::forge::{
    Forge, NOW, Signer, agent_id, networks, other_id, scopes, secret, session_id, token,
};
use crate::tests::{golden, mint};

/// What is true of a credential; everything that [`may_pass`] needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Truth {
    /// What it proves, if anything.
    proves: Proves,
    /// A nonce is signed.
    nonce: bool,
    /// A good JWT of this agent comes along.
    token: Bearer,
    /// The agent's record says that it is a legacy one.
    legacy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proves {
    Nothing,
    Session,
    Secret,
    /// The JWT alone, if it is good.
    Token,
    /// The secret itself was sent, and is right.
    HeaderSecret,
    /// The body alone is signed, rightly.
    Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bearer {
    None,
    Good,
    Bad,
}

const NOTHING: Truth =
    Truth { proves: Proves::Nothing, nonce: true, token: Bearer::Good, legacy: false };

type Credential = (&'static str, Truth, Forge);
type Recipe = (&'static str, Truth, fn() -> Forge);

fn by(proves: Proves, token: Bearer) -> Truth {
    Truth { proves, nonce: true, token, legacy: false }
}

fn lone(text: String) -> Forge {
    Forge { signer: Signer::Nobody, bearer: Some(text), ..Forge::in_session() }
}

fn unsigned(signer: Signer) -> Forge {
    Forge { signer, ..Forge::by_secret() }
}

fn legacy(signer: Signer) -> Forge {
    unsigned(signer).edit_agent(|agent| agent.legacy = true)
}

fn stranger() -> String {
    mint::eddsa(mint::KID, &mint::agent_claims(), 8)
}

fn of_another() -> String {
    let claims = mint::with(&mint::agent_claims(), "sub", other_id().to_string().into());
    mint::eddsa(mint::KID, &claims, 7)
}

fn without_algorithm() -> String {
    let header = format!(r#"{{"alg":"none","typ":"JWT","kid":"{}"}}"#, mint::KID);
    let token = mint::raw(&header, &mint::agent_claims().to_string());
    format!("{}.AA", token.rsplit_once('.').unwrap().0)
}

fn credentials() -> Vec<Credential> {
    use Bearer::{Bad, Good};
    let unproven = |nonce| Truth { nonce, ..NOTHING };
    let listed: Vec<Recipe> = vec![
        ("none", unproven(false), || lone(String::new()).remove("authorization")),
        ("names an agent only", unproven(false), || {
            lone(String::new()).remove("authorization").set("x-agent-id", mint::AGENT)
        }),
        ("no signature", unproven(true), || {
            Forge::by_secret().remove("x-signature").remove("authorization")
        }),
        ("no timestamp", NOTHING, || Forge::by_secret().remove("x-timestamp")),
        ("no agent id", NOTHING, || Forge::by_secret().remove("x-agent-id")),
        ("session", by(Proves::Session, Bearer::None), Forge::in_session),
        ("session + token", by(Proves::Session, Good), || Forge {
            bearer: Some(token()),
            ..Forge::in_session()
        }),
        ("session + stranger's token", by(Proves::Session, Bad), || Forge {
            bearer: Some(stranger()),
            ..Forge::in_session()
        }),
        ("session, no nonce", Truth { nonce: false, ..by(Proves::Session, Good) }, || Forge {
            nonce: None,
            bearer: Some(token()),
            ..Forge::in_session()
        }),
        ("session, wrong signature", NOTHING, || Forge::in_session().wrong_signature()),
        ("session, signed by secret", NOTHING, || unsigned(Signer::SecretInSession)),
        ("session key without session", NOTHING, || unsigned(Signer::SessionKeyAlone)),
        ("another's session", NOTHING, || Forge {
            session_id: session_id(6),
            ..Forge::in_session()
        }),
        ("session named by another", NOTHING, || Forge {
            named: other_id(),
            ..Forge::in_session()
        }),
        ("secret", by(Proves::Secret, Bearer::None), || Forge {
            bearer: None,
            ..Forge::by_secret()
        }),
        ("secret + token", by(Proves::Secret, Good), Forge::by_secret),
        ("secret + token, no nonce", Truth { nonce: false, ..by(Proves::Secret, Good) }, || {
            Forge { nonce: None, ..Forge::by_secret() }
        }),
        ("secret + another's token", by(Proves::Secret, Bad), || Forge {
            bearer: Some(of_another()),
            ..Forge::by_secret()
        }),
        ("secret in grace + token", by(Proves::Secret, Good), || Forge {
            secret: secret(10),
            ..Forge::by_secret()
        }),
        ("secret past grace + token", NOTHING, || Forge {
            secret: secret(12),
            ..Forge::by_secret()
        }),
        ("another's secret + token", NOTHING, || Forge {
            secret: secret(66),
            ..Forge::by_secret()
        }),
        ("v2 by legacy agent + token", Truth { legacy: true, ..by(Proves::Secret, Good) }, || {
            legacy(Signer::Secret)
        }),
        ("token alone", Truth { nonce: false, ..by(Proves::Token, Good) }, || lone(token())),
        ("stranger's token alone", NOTHING, || lone(stranger())),
        ("alg none alone", NOTHING, || lone(without_algorithm())),
        ("basic", NOTHING, || lone(token()).set("authorization", "Basic dXNlcjpwYXNz")),
        ("header secret", Truth { nonce: false, ..by(Proves::HeaderSecret, Bearer::None) }, || {
            Forge { bearer: None, ..unsigned(Signer::Header) }
        }),
        ("header secret + token", Truth { nonce: false, ..by(Proves::HeaderSecret, Good) }, || {
            unsigned(Signer::Header)
        }),
        ("wrong header secret + token", NOTHING, || Forge {
            secret: secret(99),
            ..unsigned(Signer::Header)
        }),
        (
            "header secret of legacy",
            Truth { legacy: true, nonce: false, ..by(Proves::HeaderSecret, Good) },
            || legacy(Signer::Header),
        ),
        ("body, not legacy + token", NOTHING, || unsigned(Signer::Body)),
        ("body + token", Truth { legacy: true, nonce: false, ..by(Proves::Body, Good) }, || {
            legacy(Signer::Body)
        }),
        ("body", Truth { legacy: true, nonce: false, ..by(Proves::Body, Bearer::None) }, || {
            Forge { bearer: None, ..legacy(Signer::Body) }
        }),
        ("empty body + token", NOTHING, || Forge { body: Vec::new(), ..legacy(Signer::Body) }),
        ("wrong body signature", NOTHING, || Forge { secret: secret(99), ..legacy(Signer::Body) }),
    ];
    listed.into_iter().map(|(name, truth, forge)| (name, truth, forge())).collect()
}

/// A destination, and what it asks for of its own.
struct Place {
    name: &'static str,
    target: &'static str,
    own: bool,
    session: Ask,
    nonce: bool,
    token: Ask,
    reachable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Must be there.
    Yes,
    /// Must be there without a session, or where one is due.
    Sessionless,
    /// May be there, and is looked at.
    No,
    /// May be there, and is not looked at.
    Ignored,
    /// Must not be there.
    Never,
}

fn places() -> [Place; 13] {
    let at = |name, target, session, nonce, reachable| Place {
        name,
        target,
        own: false,
        session,
        nonce,
        token: Ask::Sessionless,
        reachable,
    };
    let own = |name, target, session, token| Place {
        own: true,
        token,
        ..at(name, target, session, true, true)
    };
    [
        at("open", "/open", Ask::No, false, true),
        at("session", "/session", Ask::Yes, false, true),
        at("nonce", "/nonce", Ask::No, true, true),
        at("sensitive", "/sensitive", Ask::Yes, true, true),
        at("scoped", "/scoped", Ask::No, false, true),
        at("denied", "/denied", Ask::No, false, false),
        at("fenced", "/fenced", Ask::No, false, false),
        at("nowhere", "/nowhere", Ask::No, false, false),
        own("start", "/agent/session/start", Ask::Never, Ask::Yes),
        own("extend", "/agent/session/extend", Ask::Yes, Ask::Yes),
        own("end", "/agent/session/end", Ask::Yes, Ask::No),
        own("refresh", "/agent/token/refresh", Ask::No, Ask::Ignored),
        own("echo", "/agent/protected/echo", Ask::No, Ask::Sessionless),
    ]
}

/// What stores say. The second tells whom it stops.
type World = (&'static str, Stops, fn(Forge) -> Forge);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stops {
    Nobody,
    Everybody,
    Sessions,
    Tokenless,
    /// Whoever brings or signs by what was given at an earlier epoch: sessions and tokens.
    Earlier,
}

fn worlds() -> Vec<World> {
    fn claimed(forge: Forge, outcome: ClaimOutcome) -> Forge {
        Forge { outcome: Outcome::Claimed(outcome), ..forge }
    }
    vec![
        ("known", Stops::Nobody, |forge| forge),
        ("token due", Stops::Tokenless, |forge| Forge { token_due: true, ..forge }),
        ("unknown agent", Stops::Everybody, |forge| Forge { agent: Fact::NONE, ..forge }),
        ("blocked", Stops::Everybody, |forge| {
            forge.edit_agent(|agent| agent.standing = Standing::Blocked)
        }),
        ("retired", Stops::Everybody, |forge| {
            forge.edit_agent(|agent| agent.standing = Standing::Retired)
        }),
        ("wrong address", Stops::Everybody, |forge| {
            forge.edit_agent(|agent| agent.allowed = networks(&["10.0.0.0/8"]))
        }),
        ("no secrets", Stops::Nobody, |forge| forge.edit_agent(|agent| agent.secrets = [].into())),
        ("epoch raised", Stops::Earlier, |forge| forge.edit_agent(|agent| agent.epoch = 4)),
        ("session gone", Stops::Sessions, |forge| Forge { session: Fact::NONE, ..forge }),
        ("session expired", Stops::Sessions, |forge| {
            forge.edit_session(|session| session.expires_at = NOW.mono)
        }),
        ("session of another", Stops::Sessions, |forge| {
            forge.edit_session(|session| session.agent = AgentId::from_bytes([8; 16]))
        }),
        ("agents unavailable", Stops::Everybody, |forge| Forge {
            agent: Fact::Unavailable,
            ..forge
        }),
        ("sessions unavailable", Stops::Sessions, |forge| Forge {
            session: Fact::Unavailable,
            ..forge
        }),
        ("nonce used", Stops::Everybody, |forge| claimed(forge, ClaimOutcome::Replayed)),
        ("nonces unavailable", Stops::Everybody, |forge| Forge {
            outcome: Outcome::Unavailable,
            ..forge
        }),
        ("blocked meanwhile", Stops::Everybody, |forge| {
            forge.meanwhile(|forge| forge.edit_agent(|agent| agent.standing = Standing::Blocked))
        }),
        ("session ended meanwhile", Stops::Sessions, |forge| {
            forge.meanwhile(|forge| Forge { session: Fact::NONE, ..forge })
        }),
    ]
}

type Deployment = (&'static str, fn(Forge) -> Forge);

fn deployments() -> Vec<Deployment> {
    vec![
        ("production", |forge| forge),
        ("no signatures asked for", |forge| {
            forge.edit_policy(|policy| policy.require_hmac = false)
        }),
        ("no tokens asked for", |forge| forge.edit_policy(|policy| policy.verify_jwt = false)),
        ("neither asked for", |forge| {
            forge.edit_policy(|policy| {
                policy.require_hmac = false;
                policy.verify_jwt = false;
            })
        }),
        ("header secrets taken", |forge| {
            forge.edit_policy(|policy| policy.allow_header_secret = true)
        }),
        ("body signatures taken", |forge| {
            forge.edit_policy(|policy| policy.body_signatures = BodySignatures::Taken)
        }),
        ("sessions asked for", |forge| forge.edit_policy(|policy| policy.session_required = true)),
        ("nonces asked for", |forge| forge.edit_policy(|policy| policy.require_nonce = true)),
        ("device proofs asked for", |forge| {
            forge.edit_policy(|policy| policy.device_proof = DeviceProof::Session)
        }),
        ("everything taken", |forge| {
            forge.edit_policy(|policy| {
                policy.require_hmac = false;
                policy.verify_jwt = false;
                policy.allow_header_secret = true;
                policy.body_signatures = BodySignatures::Taken;
            })
        }),
    ]
}

fn verdict(
    credential: &Credential,
    place: &Place,
    world: &World,
    deployment: &Deployment,
) -> &'static str {
    (deployment.1)((world.2)(credential.2.clone().to(place.target))).verdict()
}

/// The rules of the protocol as to who may pass, apart from the code that decides.
fn may_pass(credential: &Credential, place: &Place, world: &World, forge: &Forge) -> bool {
    let (_, truth, _) = credential;
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
    let nonce_holds = truth.nonce || !(place.nonce || policy.require_nonce);
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
    let (credentials, places, worlds) = (credentials(), places(), worlds());
    for deployment in deployments() {
        for world in &worlds {
            for place in &places {
                for credential in &credentials {
                    let passes = verdict(credential, place, world, &deployment) == "ok";
                    let forge = (deployment.1)(Forge::in_session());
                    assert_eq!(
                        passes,
                        may_pass(credential, place, world, &forge),
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
    (title, credentials): (&str, &[Credential]),
    base: Option<&[Vec<&'static str>]>,
    cells: &[Vec<&'static str>],
) {
    let places = places();
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
    let credentials = credentials();
    let decide = |world: &World, deployment: &Deployment| -> Vec<Vec<&'static str>> {
        credentials
            .iter()
            .map(|credential| {
                places().iter().map(|place| verdict(credential, place, world, deployment)).collect()
            })
            .collect()
    };
    let (worlds, deployments) = (worlds(), deployments());
    let base = decide(&worlds[0], &deployments[0]);
    let mut out = String::from(
        "# Decisions by credentials and destination\n\n\
         The first table is whole. Of the others a point stands for: as in the first, and a row of\n\
         nothing but points is left out.\n\n",
    );
    render(&mut out, ("production; everything known", &credentials), None, &base);
    for world in &worlds[1..] {
        let cells = decide(world, &deployments[0]);
        render(&mut out, (&format!("production; {}", world.0), &credentials), Some(&base), &cells);
    }
    for deployment in &deployments[1..] {
        let cells = decide(&worlds[0], deployment);
        render(
            &mut out,
            (&format!("{}; everything known", deployment.0), &credentials),
            Some(&base),
            &cells,
        );
    }
    golden::compare("decisions.txt", &out);
}

#[test]
fn the_scopes_of_the_matrix_are_what_they_say() {
    let admission = Forge::in_session().to("/scoped").run().unwrap();
    assert_eq!(admission.caller.agent.scopes[..], scopes(&["chat", "read"]));
    assert_eq!(admission.caller.agent.id, agent_id());
}
