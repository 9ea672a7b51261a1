//! The index of failures that others had: what is promised about each, and the tests that hold it.

mod copying;

use std::collections::BTreeSet;
use std::path::Path;

struct Failure {
    /// Number of the row, or `also`.
    row: &'static str,
    /// What happened elsewhere.
    case: &'static str,
    promise: &'static str,
    /// Test functions in `verify/` or `src/`.
    held: &'static [&'static str],
}

const fn failure(
    row: &'static str,
    case: &'static str,
    promise: &'static str,
    held: &'static [&'static str],
) -> Failure {
    Failure { row, case, promise, held }
}

const STRUCK: &str = "struck_at_any_moment_a_backfill_ends_as_if_nothing_had_happened";

const INDEX: &[Failure] = &[
    failure(
        "1",
        "differences found or rows rejected, and exit 0",
        "exit 1; 2 where it could not run",
        &[
            "the_report_is_json_of_one_shape_and_exit_codes_are_0_1_and_2",
            "before_any_backfill_everything_is_missing_and_exit_is_1",
            "every_record_is_inserted_skipped_or_rejected_exactly_once",
            "usage_errors_exit_2_and_help_exits_0",
        ],
    ),
    failure(
        "2",
        "transactions applied in BEGIN order; outboxes polled by sequence",
        "state-based apply; unprocessed rows with SKIP LOCKED",
        &[
            "every_form_of_a_write_arrives",
            "batches_of_any_size_lead_to_the_same",
            "random_sql_with_a_tail_at_random_moments_ends_in_parity",
            "a_transaction_that_commits_after_later_numbers_is_not_missed",
            "many_workers_and_writers_at_once_leave_the_newest_state",
        ],
    ),
    failure(
        "3",
        "REPLACE deletes rows on a unique collision; google and Google merged",
        "never REPLACE; a collision on another key is a reject that names it",
        &[
            "names_that_a_collation_holds_equal_replace_nothing_and_the_second_is_refused",
            "every_form_of_a_write_arrives",
            "a_unique_value_that_only_sqlite_insists_on_evicts_no_row",
            "values_outside_the_lists_and_second_natural_keys_are_refused_by_name",
            "one_bad_row_never_costs_a_good_one",
        ],
    ),
    failure(
        "4",
        "`toto` or 12.3 in an integer column; integers out of range",
        "a census of storage classes before copying; reject or declared cast",
        &[
            "every_column_is_counted_by_class_range_form_and_anomaly",
            "what_is_predicted_of_dirty_tables_is_what_the_backfill_then_reports",
            "casts_store_what_postgres_would",
        ],
    ),
    failure(
        "5",
        "millisecond epochs read as seconds; offsets dropped",
        "the unit is declared, or inferred from the whole column and shown",
        &[
            "milliseconds_under_a_unit_of_seconds_are_flagged_and_refused",
            "the_unit_of_most_numbers_is_used_shown_and_recorded_and_the_others_are_refused",
            "casts_store_what_postgres_would",
            "every_cast_is_read_a_second_way_and_a_bug_planted_in_any_of_them_is_found",
        ],
    ),
    failure(
        "6",
        "REAL copied to 4 bytes; Infinity fails; false differences from float printing",
        "float8, compared as bytes",
        &[
            "values_arrive_byte_for_byte",
            "every_type_has_one_digest_whether_rust_sql_or_copy_out_computes_it",
            "scale_is_no_difference_and_the_sign_of_zero_is_one",
            "every_class_of_drift_is_found_in_every_type_and_nothing_else_is",
        ],
    ),
    failure(
        "7",
        "a NUL or \\u0000 kills the load; stripping it breaks comparison; lone surrogates",
        "reject or replace with a ledger entry; parity replays it",
        &[
            "values_arrive_byte_for_byte",
            "rejects_keep_the_whole_record_and_no_secret_is_stored_anywhere",
            "jsonb_text_equals_what_postgres_prints",
            "without_its_reject_or_ledger_row_a_record_is_unaccounted",
            "corrected_records_go_in_and_parity_accepts_exactly_them",
        ],
    ),
    failure(
        "8",
        "NULL equal to 'NULL'; separators that collide; '' turned into NULL; rtrim",
        "tagged, length-prefixed canonical fields",
        &[
            "every_changed_value_is_named_with_its_row_and_column_and_no_other",
            "every_class_of_drift_is_found_in_every_type_and_nothing_else_is",
            "values_arrive_byte_for_byte",
            "a_broken_csv_line_is_kept_as_it_was_written",
        ],
    ),
    failure(
        "9",
        "false mismatches from collation order; resume adds false extras",
        "hash buckets, no ordering",
        &[
            "keys_that_postgres_orders_otherwise_are_no_differences",
            "the_sample_of_a_union_does_not_depend_on_which_side_a_key_is_on",
            "rows_are_found_by_keys_of_every_type",
        ],
    ),
    failure(
        "10",
        "sequences not reset; identity values stripped; case twins merged",
        "sequences set and verified; case collisions refused",
        &[
            "every_kind_of_target_column_takes_its_values_and_sequences_go_on_after_them",
            "names_that_postgres_would_confuse_are_named",
            STRUCK,
        ],
    ),
    failure(
        "11",
        "state written beside the rows; worker count shifts ranges; resume by OFFSET",
        "checkpoint in the same transaction; ranges stored; keyset only",
        &[
            STRUCK,
            "killed_anywhere_and_run_again_it_leaves_what_an_undisturbed_run_leaves",
            "a_tail_that_is_killed_goes_on_where_it_was",
            "what_was_written_before_a_crash_and_not_taken_from_the_log_is_found_right",
            "chunk_size_makes_no_difference",
            "keys_that_are_not_utf8_are_resumed_after",
        ],
    ),
    failure(
        "12",
        "vectors come back normalised; approximate counts; points marked indexed after a restore",
        "tolerance, exact counts, wait=true, sweep in both directions",
        &[
            "points_come_back_as_they_were_written_with_cosine_vectors_normalised",
            "pages_are_in_the_order_of_ids_and_filters_count_and_search_exactly",
            "a_killed_worker_has_marked_nothing_that_qdrant_does_not_keep",
            "an_outbox_and_a_collection_that_were_lost_are_made_again_from_postgres_alone",
            "every_planted_difference_is_found_and_made_good_by_mending",
        ],
    ),
    failure(
        "13",
        "the command skips the lock the library takes; a blocking lock deadlocks CONCURRENTLY",
        "one code path; pg_try_advisory_lock is polled",
        &[
            "of_two_migrators_at_once_one_waits_and_each_migration_is_applied_once",
            "a_migrator_that_waits_too_long_says_who_holds_the_lock",
            "a_step_without_transaction_killed_midway_recovers_from_an_invalid_index",
            "beside_a_running_backfill_one_with_other_settings_or_over_again_is_refused",
        ],
    ),
    failure(
        "14",
        "divergent or missing migrations skipped; checksum broken by CRLF",
        "refused; line endings do not count",
        &[
            "a_migration_edited_after_it_was_applied_is_refused_by_version_name_and_file",
            "an_applied_migration_without_a_file_and_a_late_older_one_are_refused",
            "line_endings_and_a_byte_order_mark_do_not_change_the_checksum",
        ],
    ),
    failure(
        "15",
        "caps applied after traversal",
        "caps inside the recursion",
        &[
            "what_is_asked_beyond_the_caps_is_clamped_and_said",
            "a_hub_is_looked_at_no_further_than_a_leaf",
            "k_hop_finds_what_a_breadth_first_search_with_the_same_caps_finds_in_the_same_order",
        ],
    ),
    failure(
        "16",
        "heap exhausted by a table of 2 KB rows",
        "memory bounded in bytes, not rows",
        &["memory_does_not_grow_with_a_table_of_wide_rows"],
    ),
    failure(
        "17",
        "an older source row overwrites a newer target row",
        "a conflict rule per stream, both ways",
        &[
            "the_newer_row_wins_whichever_side_it_is_on_and_a_tie_keeps_the_targets",
            "the_source_or_the_target_wins_where_the_pack_says_so",
            "a_captured_change_wins_when_the_tail_comes_before_the_chunk",
            "a_captured_change_wins_when_the_chunk_comes_before_the_tail",
            "a_key_that_stands_in_two_files_goes_to_the_newer_row",
        ],
    ),
    failure(
        "18",
        "one bad record aborts or skips all later ones",
        "the bad row is found, the rest kept",
        &[
            "one_bad_row_never_costs_a_good_one",
            "a_refused_row_is_a_reject_until_it_is_good_again",
            "a_row_that_sqlite_refuses_is_kept_visible_until_it_goes_back_and_the_rest_goes_on",
        ],
    ),
    failure(
        "also",
        "identifiers with quotes, spaces, keywords, 63 bytes and more",
        "only names",
        &[
            "odd_identifiers_are_only_names",
            "quoted_names_come_back_from_the_server_as_they_went_in",
            "names_that_postgres_would_confuse_are_named",
        ],
    ),
    failure(
        "also",
        "WITHOUT ROWID, generated columns, STRICT, views",
        "read to the last row",
        &["every_kind_of_sqlite_table_is_read_to_the_last_row"],
    ),
    failure(
        "also",
        "tables with no primary key",
        "said; rows of one key never both get in",
        &[
            "a_key_without_a_unique_index_and_pointers_into_nothing_are_warnings",
            "rows_that_share_a_key_never_both_get_in_even_without_a_unique_index",
            "duplicates_keep_their_number_and_a_second_run_adds_nothing",
            "killed_and_resumed_or_restarted_nothing_comes_twice",
            "identical_rows_of_a_table_without_a_key_are_at_parity_at_every_level",
        ],
    ),
    failure(
        "also",
        "encrypted or corrupt SQLite files",
        "a clear error, exit 2, nothing changed",
        &[
            "sources_that_cannot_be_read_are_named_with_advice",
            "a_file_this_user_may_not_read_is_named",
        ],
    ),
    failure(
        "also",
        "a write-ahead log not yet checkpointed",
        "its rows are read",
        &[
            "rows_still_in_the_log_are_read_and_a_closed_database_stays_as_it_was",
            "what_sqlite_cannot_read_without_writing_is_read_from_a_copy",
        ],
    ),
    failure(
        "also",
        "a locked database",
        "waited for, then who holds it is said",
        &["a_locked_source_is_waited_for_and_then_its_holder_is_named"],
    ),
    failure(
        "also",
        "a source that changes during backfill",
        "detected and reported, its writers never locked out",
        &[
            "a_source_that_moves_is_reported_and_its_writers_are_never_locked_out",
            "one_commit_into_a_log_that_started_over_is_noticed",
            "an_interrupted_run_is_not_resumed_over_other_inputs_and_restart_is_safe",
            "a_run_over_a_moving_source_is_resumed_from_its_copy_alone",
            "a_moving_source_is_copied_and_resumed_while_both_go_on",
            "an_older_copy_of_the_file_is_noticed",
            "a_rebuilt_table_halts_until_capture_is_enabled_again",
        ],
    ),
    failure(
        "also",
        "disk full on the target",
        "exit 2, named, resumed when there is room",
        &[
            "a_full_disk_of_the_target_is_named_and_the_run_is_resumed_when_there_is_room",
            "without_room_in_the_scratch_folder_a_source_is_read_where_it_is_and_that_is_said",
        ],
    ),
    failure(
        "also",
        "Postgres restarted in mid-chunk",
        "waited for; else exit 2 with the command that resumes",
        &[
            "a_server_restarted_in_mid_chunk_is_waited_for_and_the_run_goes_on",
            "a_server_that_stays_away_ends_the_run_with_the_command_that_resumes_it",
            "a_terminated_session_is_replaced_and_the_run_goes_on",
            "a_server_that_restarts_is_waited_for_and_nothing_is_lost",
            "it_waits_for_a_writer_of_the_file_and_for_the_server_and_goes_on",
            STRUCK,
        ],
    ),
    failure(
        "also",
        "Qdrant down for an hour",
        "the outbox grows, nothing lost, catches up",
        &["an_outage_of_qdrant_loses_nothing_and_counts_as_no_try"],
    ),
    failure(
        "also",
        "clock skew",
        "nothing depends on wall clocks for correctness",
        &[
            "a_clock_that_was_set_back_does_not_hide_the_run_that_is_to_be_resumed",
            "a_clock_that_is_set_back_between_two_changes_loses_neither",
        ],
    ),
];

/// Names of all test functions below a folder.
fn tests_in(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")) {
                if is_test {
                    found.insert(rest.split('(').next().unwrap().to_owned());
                }
                is_test = false;
            }
        }
    }
    found
}

#[test]
fn every_failure_that_others_had_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = tests_in(&root.join("verify"));
    tests.extend(tests_in(&root.join("src")));
    for failure in INDEX {
        let Failure { row, case, promise, held } = failure;
        assert!(!held.is_empty(), "{row}: nothing holds `{promise}`");
        for name in *held {
            assert!(tests.contains(*name), "{row}, {case}: no test {name}");
        }
    }
    let rows: Vec<&str> = INDEX.iter().map(|f| f.row).filter(|row| *row != "also").collect();
    let all: Vec<String> = (1..=18).map(|n| n.to_string()).collect();
    assert_eq!(rows, all, "every row once, in order");
}
