"""Many hosts on one store. What can go wrong, and the tests that show it, are in `SHOWN`."""

from __future__ import annotations

from typing import Final

SHOWN: Final[dict[str, tuple[str, ...]]] = {
    # Traps, each met on real servers.
    "1 paging a load is quadratic": (
        "test_traps.py::test_a_load_takes_a_request_for_each_50_hosts",
    ),
    "2 4 MiB a message": ("test_engines.py::test_a_large_load_and_a_large_batch_come_whole",),
    "3 128 operations a transaction": (
        "test_engines.py::test_a_commit_takes_what_it_says_and_no_more",
        "test_bad_values.py::test_more_than_a_transaction_takes_is_written_in_several",
    ),
    "4 created is not live": ("test_traps.py::test_a_feed_that_is_too_old_never_tells_progress",),
    "5 old progress": (
        "test_traps.py::test_old_progress_is_none_and_progress_that_was_too_early_loses_nothing",
        "test_clocks.py::test_progress_that_has_waited_is_as_old_as_that",
    ),
    "6 a full store renews leases": (
        "test_etcd_faults.py::test_a_full_database_is_told_and_leases_live_on",
        "test_states.py::test_a_host_whose_changes_do_not_get_through_becomes_lost",
    ),
    "7 a store that was wiped or restored": (
        "test_engines.py::test_a_wiped_store_is_noticed",
        "test_engines.py::test_another_epoch_is_another_store",
        "test_etcd_faults.py::test_a_store_restored_from_a_copy_is_another_one",
        "test_states.py::test_a_store_that_was_wiped_loses_hosts_and_no_domains",
    ),
    "8 two publishers of one machine": (
        "test_threads.py::test_two_publishers_of_one_machine_exclude_each_other",
        "test_states.py::test_who_was_fenced_by_its_own_machine_stops",
        "test_clocks.py::test_a_frozen_publisher_that_was_taken_over_writes_nothing_more",
    ),
    "9 a takeover is no loss": (
        "test_states.py::test_at_a_takeover_the_host_is_syncing_and_nothing_is_told_twice",
    ),
    "10 a pause longer than the leases": (
        "test_traps.py::test_a_pause_longer_than_the_leases_of_many_hosts_is_no_loss",
        "test_states.py::test_a_host_that_is_away_for_a_moment_is_not_told_lost",
    ),
    "11 a line that is silent": (
        "test_etcd_faults.py::test_a_line_that_carries_nothing_is_lost_in_time",
        "test_etcd_faults.py::test_a_lost_quorum_is_noticed",
    ),
    "12 a value that is no JSON": (
        "test_bad_values.py::test_a_domain_that_cannot_be_read_is_counted_and_its_host_named",
    ),
    "13 no order between hosts": ("test_moves.py::test_a_migration_is_one_event",),
    "14 pings are refused": ("test_engines.py::test_progress_is_told_without_changes",),
    "15 a gRPC proxy": (
        "test_etcd_faults.py::test_a_grpc_proxy_is_told",
        "test_traps.py::test_behind_a_grpc_proxy_connect_publish_and_check_say_so",
    ),
    "16 a life's id in another boot": (
        "test_states.py::test_a_rebooted_host_has_other_lives_though_their_ids_are_the_same",
    ),
    # Faults that are seen through.
    "a publisher is killed": (
        "test_lost.py::test_each_of_50_that_die_is_lost_in_time",
        "test_lost.py::test_after_a_restart_of_the_engine_it_takes_a_lease_more",
        "test_command_line_etcd.py::test_a_publisher_is_found_killed_and_lost",
    ),
    "a publisher is restarted": ("test_engines.py::test_the_same_machine_takes_over_at_once",),
    "a publisher is frozen": (
        "test_clocks.py::test_a_publisher_that_was_frozen_past_its_lease_claims_anew",
    ),
    "another machine takes the name": (
        "test_engines.py::test_another_machine_is_refused",
        "test_states.py::test_another_machine_under_the_same_name_is_refused",
    ),
    "a server is restarted": ("test_etcd_faults.py::test_a_restarted_server_is_resumed",),
    "a server is stopped": (
        "test_engines.py::test_a_stopped_store_is_noticed_and_nothing_is_missed",
    ),
    "one of three members is killed": (
        "test_etcd_faults.py::test_a_killed_member_costs_no_change",
        "test_etcd_faults.py::test_a_frozen_member_is_left",
    ),
    "the store is compacted": (
        "test_engines.py::test_compaction_is_said_aloud",
        "test_states.py::test_after_a_compaction_the_events_are_exactly_the_difference",
        "test_slow.py::test_a_reader_that_is_frozen_amid_many_changes_hears_exactly_the_difference",
    ),
    "a live migration": (
        "test_moves.py::test_a_migration_is_one_event",
        "test_states.py::test_a_uuid_on_two_hosts_is_ambiguous_and_settled_takes_the_one_that_runs",
    ),
    "a slow handler": ("test_slow.py::test_a_handler_that_blocks_gets_a_resync_and_delays_nobody",),
    "a reader is frozen": (
        "test_clocks.py::test_a_reader_that_was_frozen_does_not_take_an_old_picture_for_live",
        "test_slow.py::test_a_reader_that_was_frozen_and_missed_nothing_that_is_gone_resumes",
    ),
    "a machine is suspended": (
        "test_clocks.py::test_the_clock_of_a_reader_goes_on_while_its_machine_is_suspended",
        "test_clocks.py::test_after_a_pause_a_reader_is_not_live_until_it_is_confirmed",
    ),
    "the wall clock jumps": ("test_clocks.py::test_a_wall_clock_that_jumps_changes_nothing",),
    "a host is blind": ("test_states.py::test_a_blind_host_says_so",),
}
"""For each trap and each fault the tests, as FILE::NAME."""
