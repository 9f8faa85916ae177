//! The worst bugs of libraries that do the same job, as tests here: what went wrong there, and what
//! must hold here.
//!
//! Numbers are issues of Confluent's Parallel Consumer unless another project is named. Where a
//! suite of this folder already is the test, the table says so instead of repeating it.
//!
//! | what went wrong there | test |
//! |---|---|
//! | #826 records lost at close or revoke: offsets of what still ran were committed | `g1_no_silent_loss`: `hard_stops_lose_nothing_*`; `g8_calm_rebalances`: `a_rolling_restart_*`; `decaton_suite`: every test |
//! | #777 records repeated at every revoke | the same: a clean hand-over repeats nothing |
//! | #857 a rebalance stops consumption: partitions stay paused, the drain never polls | `rebalances`: `partitions_paused_during_a_rebalance_*` |
//! | #857 records that wait for a retry keep the intake closed | `pressure`: `retries_that_pile_up_*` |
//! | #875, #909 a fresh record is dropped onto a stale entry of an earlier assignment | `rebalances`: `a_record_of_a_new_assignment_*`; `g7_epochs`: `the_late_result_*` |
//! | #909 metadata that cannot be read costs a record | `g4_honest_commits`: `metadata_of_others_and_damaged_metadata_*`, `a_map_that_a_tool_has_copied_*` |
//! | #787 cannot be closed in a storm of rebalances | `rebalances`: `a_member_can_be_closed_in_a_storm_*` |
//! | #894 offsets reset by frequent rebalances | `rebalances`: `frequent_rebalances_*` |
//! | #647, #35 the map of what is settled ahead is too large, and consumption stops | `pressure`: `consumption_goes_on_*` |
//! | #817, #832 out of memory when retries pile up | `pressure`: `retries_that_pile_up_*` |
//! | arroyo: a message is dropped when the strategy refuses it under back-pressure | `pressure`: `back_pressure_*` |
//! | ruststream: a record that waits for its retry is gone with the process | `g2_key_order`: `order_holds_across_hand_overs_with_retries_waiting_*`; `g1_no_silent_loss`: `hard_stops_*` |
//! | ruststream: a stuck key blocks the keys that share its lane | `g3_isolation`: `a_stuck_key_holds_up_none_of_999_others_*` |
//! | #184 one key in two topics is mixed up | `records`: `a_key_that_two_topics_share_*` |
//! | #318 records without a key go round for ever | `records`: `records_without_a_key_*` |
//! | #329 transaction markers are counted as records | `records`: `the_holes_of_transactions_*` |
//! | #409 the holes of compaction confuse the map | `records`: `the_holes_of_compaction_*` |
//! | spring-kafka #1493 what retention deletes is passed over in silence | `records`: `a_log_that_was_emptied_*`; keylane's `metrics_values` |
//! | spring-kafka #110 with `latest` an idle partition begins at a later end after a restart | `records`: `with_latest_*`; keylane's `committed_offsets` |
//! | librdkafka #5158, zio-kafka #1760 a log that was cut and written anew is read on from the old position | `cut_logs` |
//! | klag-exporter #104 what lies behind an open transaction is lag without an age | `records`: `records_behind_an_open_transaction_*` |
//! | librdkafka: a write is acknowledged by a topic that is deleted at that moment, and lies nowhere | `recreated_topic` |
//! | #833 a commit that times out ends the consumer | `outages`: `commits_that_time_out_*` |
//! | #830 the broker forgets the producer (`InvalidPidMapping`) and it never recovers | `g1_no_silent_loss`: `a_deleted_retry_topic_*` and `while_the_dead_letter_topic_is_gone_*`: a topic made anew knows no producer. Transactional producers, whose ids expire, are not used |
//! | #402, #637, #547, #606 leaked counters stall the intake | `keylane-core`: the simulator compares every budget with a model after every step |
//! | #821 the shards are changed while they are drained | no counterpart: a partition's state has one owner |
//! | #809 SASL settings do not reach all clients | the suite for secure connections |
//! | #859 metrics are registered anew with every commit | `decaton_suite`: `metrics` counts series |
//! | #884 thirty times slower than a plain consumer | the benchmarks, beside a plain consumer |

mod cut_logs;
mod outages;
mod pressure;
mod rebalances;
mod records;
mod recreated_topic;

use tokio::{runtime::Handle, task::JoinHandle};

/// Runs beside the test, on a thread of its own: waiting for a condition is no work that could move
/// between threads.
fn on_a_thread(work: impl AsyncFnOnce() + Send + 'static) -> JoinHandle<()> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work()))
}
