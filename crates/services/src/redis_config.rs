//! What is written into `redis.conf`.

use crate::redis::{Kind, Ports};
use crate::{REDIS_SUPERUSER, RedisOptions};

/// The settings of one server; what the options say in their own words comes last.
pub(crate) fn settings(options: &RedisOptions, ports: Ports, kind: Kind) -> String {
    let mut lines = vec![
        format!("port {}", ports.plain),
        "bind 127.0.0.1".to_owned(),
        "protected-mode no".to_owned(),
    ];
    if kind != Kind::Sentinel {
        lines.extend(replication(options));
        lines.extend(disk_and_memory(options));
    }
    if let Some(bus) = ports.bus {
        lines.push("cluster-enabled yes".to_owned());
        lines.push(format!("cluster-port {bus}"));
        lines.push("cluster-node-timeout 1000".to_owned());
    }
    if let (Some(tls), Some(port)) = (&options.tls, ports.tls) {
        lines.push(format!("tls-port {port}"));
        lines.push(format!("tls-cert-file {}", tls.certificate.display()));
        lines.push(format!("tls-key-file {}", tls.key.display()));
        lines.push(format!("tls-ca-cert-file {}", tls.authority.display()));
        lines.push("tls-auth-clients no".to_owned());
    }
    if !options.users.is_empty() {
        let (name, password) = REDIS_SUPERUSER;
        lines.push(format!("user {name} on >{password} ~* &* +@all"));
        lines.push(format!("masteruser {name}"));
        lines.push(format!("masterauth {password}"));
        lines.extend(options.users.iter().cloned());
    }
    lines.extend(options.config.iter().cloned());
    lines.join("\n") + "\n"
}

fn replication(options: &RedisOptions) -> Vec<String> {
    let mut lines = vec![
        "repl-diskless-sync-delay 0".to_owned(),
        // a stop does not wait for replicas that lag
        "shutdown-timeout 0".to_owned(),
    ];
    let primary = options.replica_of;
    lines.extend(primary.map(|primary| format!("replicaof {} {}", primary.ip(), primary.port())));
    lines
}

fn disk_and_memory(options: &RedisOptions) -> Vec<String> {
    let mut lines = Vec::new();
    if options.appendonly {
        lines.push("appendonly yes".to_owned());
        lines.push("appendfsync always".to_owned());
    }
    // with a line, a snapshot is made at a stop too; this one is so rare that none is made between
    lines.push(if options.snapshots { "save 86400 1000000" } else { "save \"\"" }.to_owned());
    lines.extend(options.max_memory.map(|bytes| format!("maxmemory {bytes}")));
    lines.extend(options.max_memory_policy.iter().map(|name| format!("maxmemory-policy {name}")));
    lines
}
