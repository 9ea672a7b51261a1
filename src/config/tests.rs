use std::collections::HashMap;

use super::*;

fn surroundings(folder: &Path, root: bool, variables: &[(&str, &str)]) -> Surroundings {
    let variables: HashMap<String, OsString> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v))).collect();
    Surroundings::new(folder.to_owned(), root, move |name| variables.get(name).cloned())
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let folder = tempfile::tempdir().unwrap();
    let resolve = |flags: &Flags, variables: &[(&str, &str)]| {
        Settings::resolve(flags, &surroundings(folder.path(), false, variables)).unwrap()
    };
    let nothing = resolve(&Flags::default(), &[]);
    assert_eq!(nothing.database, Database::Embedded);
    assert_eq!(nothing.state_dir, folder.path().join(".toolkit"));
    assert_eq!(nothing.format, Format::Table);

    fs::write(
        folder.path().join(FILE_NAME),
        "database_url = 'postgres://file/'\nformat = 'json'\nstate_dir = 'state'\n\
         lock_timeout_ms = 7\n",
    )
    .unwrap();
    let file = resolve(&Flags::default(), &[("DATABASE_URL", "")]);
    assert_eq!(file.database, Database::Url("postgres://file/".into()));
    assert_eq!(file.format, Format::Json);
    assert_eq!(file.state_dir, folder.path().join("state"));
    assert_eq!(file.lock_timeout_ms, 7);

    let variables = [
        ("DATABASE_URL", "postgres://environment/"),
        ("TOOLKIT_FORMAT", "table"),
        ("TOOLKIT_LOCK_TIMEOUT_MS", "8"),
    ];
    let environment = resolve(&Flags::default(), &variables);
    assert_eq!(environment.database, Database::Url("postgres://environment/".into()));
    assert_eq!(environment.format, Format::Table);
    assert_eq!(environment.lock_timeout_ms, 8);

    let flags = Flags { database_url: Some("embedded".into()), ..Flags::default() };
    assert_eq!(resolve(&flags, &variables).database, Database::Embedded);
}

#[test]
fn state_of_root_lives_outside_its_home_by_the_hash_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let state = default_state_dir(&surroundings(folder.path(), true, &[])).unwrap();
    assert_eq!(state.parent(), Some(Path::new("/var/lib/toolkit")));
    assert_eq!(state.file_name().unwrap().len(), 16);
    let through_dots = folder.path().join(".");
    assert_eq!(state, default_state_dir(&surroundings(&through_dots, true, &[])).unwrap());
}

#[test]
fn a_wrong_settings_file_is_named_with_line_and_column_but_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let text = "format = 'json'\n  databse_url = 'postgres://u:hunter2@h/'\n";
    fs::write(folder.path().join(FILE_NAME), text).unwrap();
    let error =
        Settings::resolve(&Flags::default(), &surroundings(folder.path(), false, &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.detail().contains("toolkit.toml, line 2, column 3: unknown field `databse_url`"));
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn a_named_settings_file_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let flags = Flags { config: Some("missing.toml".into()), ..Flags::default() };
    let error = Settings::resolve(&flags, &surroundings(folder.path(), false, &[])).unwrap_err();
    assert!(error.detail().contains("missing.toml"));
}

#[test]
fn numbers_no_server_takes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("TOOLKIT_CONNECTIONS_MAX", "0"),
        ("TOOLKIT_LOCK_TIMEOUT_MS", "4294967295"),
        ("TOOLKIT_LOCK_TIMEOUT_MS", "soon"),
        ("TOOLKIT_LOG_FORMAT", "xml"),
    ] {
        let error = Settings::resolve(
            &Flags::default(),
            &surroundings(folder.path(), false, &[(name, value)]),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name}={value}");
    }
}
