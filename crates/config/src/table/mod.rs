//! The table of settings: the one source of parsing, of the reference page and of every row printed.

mod agent;
mod edge;
mod owner;
mod stores;

use crate::setting::Setting;

pub(crate) use stores::{POSTGRES_ONLY, REDIS_ONLY};

/// A setting that older deployments had and this one refuses.
pub(crate) struct Retired {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    pub(crate) what_to_do: &'static str,
}

/// Names that are refused by name, each with its own sentence.
pub(crate) const RETIRED: &[Retired] = &[
    Retired {
        name: "EDGE_DEV_NO_AUTH",
        why: "no such setting: no switch turns authentication off",
        what_to_do: "Remove it; `edgeward demo` shows a signed call without any preparation.",
    },
    Retired {
        name: "EDGE_KEK_FILE",
        why: "no such setting: EDGE_KEK names where the key is",
        what_to_do: "Write EDGE_KEK=file:PATH instead.",
    },
];

/// The sections of the table, in the order of the reference page.
pub(crate) const SECTIONS: &[(&str, &[Setting])] = &[
    ("The deployment", edge::DEPLOYMENT),
    ("The database and Redis", stores::STORES),
    ("What proves a caller", edge::PROOF),
    ("Agents", agent::AGENT),
    ("Owners", owner::OWNER),
    ("Logs and traces", edge::TELEMETRY),
];

/// Every setting, in the order of the reference page.
pub(crate) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|(_, settings)| settings.iter())
}

/// Every name that the environment may use, those of mounted secrets included.
pub(crate) fn known_names() -> Vec<String> {
    settings()
        .flat_map(|setting| [Some(setting.name.to_owned()), setting.secret_file_name()])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{known_names, settings};

    #[test]
    fn names_are_unique_and_belong_to_a_section_of_the_file() {
        let names = known_names();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for setting in settings() {
            let section = setting.name.split('_').next();
            assert!(matches!(section, Some("EDGE" | "AGENT" | "OWNER")), "{}", setting.name);
            assert!(!setting.doc.is_empty());
        }
    }
}
