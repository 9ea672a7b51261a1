//! Who runs this process, and where: for records that people read.

/// This machine's name; empty where it has none.
pub(crate) fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_owned()
}

/// The operating system's user and host.
pub(crate) fn user_at_host() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name);
    let host = host();
    if host.is_empty() { user } else { format!("{user}@{host}") }
}
