//! The reference page of settings, made from the table that parses them.

use crate::form::{self, spelled_millis};
use crate::routes;
use crate::setting::{Kind, Mark, Preset, Setting};
use crate::table::{RETIRED, SECTIONS};
use crate::value;

const HEAD: &str = "# Settings

<!-- Generated from the table in crates/config by `cargo run -p xtask -- docs`. Do not edit. -->

Every setting can be given in the environment by the name in the table, in a TOML file that `EDGE_CONFIG` or `--config` names
(`EDGE_X` is `x` under `[edge]`, `AGENT_X` is `x` under `[agent]`, `OWNER_X` is `x` under `[owner]`), or by a flag. A flag wins over the
environment, the environment over the file, the file over the profile's default. Lists have commas between their items in the
environment and are lists of strings in the file; `none` is the empty list. Durations are whole milliseconds, or a number
with `ms`, `s`, `m`, `h` or `d`. Relative paths are below the working directory.

A setting marked *secret* can be given as `NAME_FILE` instead, the path of a file that holds the value; a line break at its end is
dropped. `edgeward config` prints the effective settings with where each came from, secrets masked; `edgeward check --profile production`
judges them without starting anything.

A bad value stops the start with one message that lists every fault. An unknown name is a fault too, and so is an unknown variable that begins with
`EDGE_`, `AGENT_` or `OWNER_` (`AGENT_GATE_…` is left alone). In the production profile the edge refuses to start on a row marked **!** that is not
as the rule says, and warns where it says *warned*.
";

/// `docs/settings.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    for (title, settings) in SECTIONS {
        page.push_str(&format!(
            "\n## {title}\n\n| setting | development | production | what it is | rule |\n|---|---|---|---|---|\n"
        ));
        for setting in *settings {
            page.push_str(&row(setting));
        }
    }
    page.push_str(ROUTES_HEAD);
    for key in routes::KEYS {
        let line = format!("| `{}` | {} | {} |\n", key.name, key.default, key.doc);
        page.push_str(&line);
    }
    page.push_str("\n## Refused by name\n\n");
    for retired in RETIRED {
        page.push_str(&format!("- `{}`: {}. {}\n", retired.name, retired.why, retired.what_to_do));
    }
    page
}

const ROUTES_HEAD: &str = "
## Routes

Routes stand in the file only, each begun with `[[routes]]`:

```toml
[[routes]]
match = \"/v1/\"
upstream = [\"http://127.0.0.1:9000\"]
require_nonce = true
scopes = [\"llm:chat\"]
rate = { per_sec = 5, burst = 10 }
max_body = \"1MiB\"
timeouts = { connect_ms = 2000, first_byte_ms = 60000, idle_ms = 120000 }
identity = \"headers\"
set_headers = { apikey = { file = \"/run/secrets/anon\" } }
pass_headers = [\"accept\", \"content-type\"]
```

| key | default | what it is |
|---|---|---|
";

fn row(setting: &Setting) -> String {
    let secret = if setting.secret_file_name().is_some() { " *secret*" } else { "" };
    format!(
        "| `{}`{secret} | {} | {} | {} | {} |\n",
        setting.name,
        preset(setting, setting.development),
        production(setting),
        setting.doc,
        rule(setting),
    )
}

fn preset(setting: &Setting, preset: Preset) -> String {
    match (preset, setting.kind) {
        (Preset::Unset, _) => "none".to_owned(),
        (Preset::Derived(how), _) => how.to_owned(),
        (Preset::Value(""), _) => "empty".to_owned(),
        (Preset::Value(raw), Kind::Millis { .. }) => match form::millis(raw) {
            Some(ms) => format!("`{ms}` ({})", spelled_millis(ms)),
            None => format!("`{raw}`"),
        },
        (Preset::Value(raw), _) => format!("`{raw}`"),
    }
}

fn production(setting: &Setting) -> String {
    let preset = preset(setting, setting.production);
    match setting.mark {
        Mark::Free => preset,
        Mark::MustBe(_) | Mark::Ruled => format!("{preset} **!**"),
        Mark::ShouldBe(_) => format!("{preset}, *warned* if not"),
        Mark::MustBeSet => "must be set **!**".to_owned(),
    }
}

fn rule(setting: &Setting) -> String {
    let form = value::expected(setting.kind);
    let mut rule = format!(
        "{}{}",
        form.get(..1).unwrap_or_default().to_uppercase(),
        form.get(1..).unwrap_or_default()
    );
    if !setting.rule.is_empty() {
        rule.push_str("; ");
        rule.push_str(setting.rule);
    }
    if let Some(what) = setting.later {
        rule.push_str("; not supported by this build yet: ");
        rule.push_str(what);
    }
    rule
}
