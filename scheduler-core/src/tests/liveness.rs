//! Executors that leave, hang, come back, forget attempts, or know attempts that do not count.

use super::check;

#[test]
fn a_broken_connection_is_suspicion_and_then_loss() {
    check(
        "
        join 1
        submit 1
        disconnect 1
        executors
        submit 2
        @1
        join 1
        @1.5
        disconnect 1
        @3.4
        tick
        @3.5
        tick
        join 1
        beat 1
        ",
        "
        submit 1
            plan 1 on 1
        ExecutorStatus { executor: ExecutorId(1), slots: 1, used_slots: 0, state: Suspected }
        join 1
            plan 2 on 1
        tick
            evict 1
        join 1
            evict 1
        ",
    );
}

#[test]
fn silence_is_loss() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        @5
        beat 1 knowing 1.0.0.0
        @14.9
        tick
        @15
        tick
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        tick
            evict 1
        ",
    );
}

#[test]
fn a_machine_that_has_slept_does_not_take_its_own_silence_for_theirs() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 2
        @3600
        beat 1 knowing 1.0.1.0
        @3601
        beat 2 knowing 1.0.0.0
        @3610
        tick
        @3610.9
        beat 1 knowing 1.0.1.0
        @3611
        tick
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@2 1.0.1.0@1
        tick
            evict 1
        tick
            evict 2
        ",
    );
}

#[test]
fn a_draining_executor_gets_nothing_new_and_is_lost_when_it_goes() {
    check(
        "
        join 1 slots 2
        join 2 slots 2
        submit 1
        planned 1: 2; 1 <- 0c
        drain 2
        executors
        finish 1.0.0.0
        finish 1.0.1.0
        join 2 slots 2
        executors
        disconnect 2
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2; 1 <- 0c
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
        ExecutorStatus { executor: ExecutorId(1), slots: 2, used_slots: 1, state: Usable }
        ExecutorStatus { executor: ExecutorId(2), slots: 2, used_slots: 1, state: Draining }
        finish 1.0.1.0
            launch 1.1.0.0 on 1 < 1.0.0.0@2 1.0.1.0@1
            result of 1 at 1.1.0.0@1
        ExecutorStatus { executor: ExecutorId(1), slots: 2, used_slots: 1, state: Usable }
        ExecutorStatus { executor: ExecutorId(2), slots: 2, used_slots: 0, state: Draining }
        disconnect 2
            evict 2
            abort 1.1.0.0 on 1
            launch 1.0.0.1 on 1
        ",
    );
}

#[test]
fn a_launch_that_did_not_arrive_is_sent_again() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        @2.9
        beat 1
        @3
        beat 1
        @4
        beat 1
        @6
        beat 1
        beat 1 knowing 1.0.0.0
        @6.5
        join 1
        join 1 knowing 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        beat 1
            launch 1.0.0.0 on 1
        beat 1
            launch 1.0.0.0 on 1
        join 1
            launch 1.0.0.0 on 1
        ",
    );
}

#[test]
fn a_task_that_its_executor_forgot_is_run_again() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        start 1.0.0.0
        @10
        beat 1
        @11
        beat 1 knowing 1.0.0.0
        @12
        beat 1
        @14.9
        beat 1
        @15
        beat 1
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        beat 1
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        ",
    );
}

#[test]
fn zombies_are_stopped() {
    check(
        "
        join 1 slots 2
        submit 1
        planned 1: 2
        fail 1.0.0.0 unavailable
        finish 1.0.1.0
        beat 1 knowing 1.0.0.0 1.0.0.1 1.0.1.0
        beat 1 knowing 8.0.0.0 8.0.0.1 1.0.0.1
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@1 1.0.1.0@1
        fail 1.0.0.0 unavailable
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1 1.0.1.0@1
        beat 1 knowing 1.0.0.0 1.0.0.1 1.0.1.0
            abort 1.0.0.0 on 1
        beat 1 knowing 8.0.0.0 8.0.0.1 1.0.0.1
            release 8 on 1
        ",
    );
}

#[test]
fn a_query_that_kills_executors_is_stopped() {
    check(
        "
        config max_executor_losses=1
        join 1
        join 2
        join 3
        submit 1
        submit 2
        planned 1: 1
        planned 2: 1
        disconnect 2
        @2
        tick
        disconnect 1
        disconnect 3
        @4
        tick
        ",
        "
        submit 1
            plan 1 on 1 2 3
        submit 2
            plan 2 on 1 2 3
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        planned 2: 1
            launch 2.0.0.0 on 3
            result of 2 at 2.0.0.0@3
        tick
            evict 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        tick
            evict 1
            end 1: Internal: the query was stopped, because it is the likely cause of the loss of 2 of its executors; check the logs of the executors
            evict 3
        ",
    );
}

#[test]
fn an_executor_that_only_held_outputs_is_not_held_against_the_query() {
    check(
        "
        config max_executor_losses=0
        join 1
        join 2
        submit 1
        planned 1: 1; 2 <- 0c
        finish 1.0.0.0
        finish 1.1.0.0
        beat 2
        disconnect 2
        @2
        tick
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 2 <- 0c
            launch 1.0.0.0 on 2
        finish 1.0.0.0
            launch 1.1.0.0 on 2 < 1.0.0.0@2
            launch 1.1.1.0 on 1 < 1.0.0.0@2
            result of 1 at 1.1.0.0@2 1.1.1.0@1
        tick
            evict 2
            abort 1.1.1.0 on 1
            launch 1.0.0.1 on 1
        ",
    );
}

#[test]
fn a_loss_counts_also_when_the_readers_see_it_first() {
    check(
        "
        config max_executor_losses=0
        join 1
        join 2
        submit 1
        planned 1: 1
        begun 1.0.0.0
        submit 2
        planned 2: 1
        unfetched 2.0.0.0
        disconnect 1
        @2
        tick
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        submit 2
            plan 2 on 1 2
        planned 2: 1
            launch 2.0.0.0 on 1
            result of 2 at 2.0.0.0@1
        unfetched 2.0.0.0
            abort 2.0.0.0 on 1
        tick
            evict 1
            end 2: Internal: the query was stopped, because it is the likely cause of the loss of 1 of its executors; check the logs of the executors
        ",
    );
}

#[test]
fn queries_that_ran_together_share_the_blame_and_one_is_stopped() {
    check(
        "
        config max_executor_losses=1
        join 1 slots 2
        submit 1
        submit 2
        planned 1: 1
        planned 2: 1
        disconnect 1
        @2
        join 2 slots 2
        disconnect 2
        @4
        join 3 slots 2
        disconnect 3
        @6
        join 4 slots 2
        disconnect 4
        @8
        join 5 slots 2
        disconnect 5
        @10
        join 6 slots 2
        tick
        ",
        "
        submit 1
            plan 1 on 1
        submit 2
            plan 2 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        planned 2: 1
            launch 2.0.0.0 on 1
            result of 2 at 2.0.0.0@1
        join 2 slots 2
            evict 1
            launch 1.0.0.1 on 2
            launch 2.0.0.1 on 2
            result of 1 at 1.0.0.1@2
            result of 2 at 2.0.0.1@2
        join 3 slots 2
            evict 2
            launch 1.0.0.2 on 3
            launch 2.0.0.2 on 3
            result of 1 at 1.0.0.2@3
            result of 2 at 2.0.0.2@3
        join 4 slots 2
            evict 3
            end 2: Internal: the query was stopped, because it is the likely cause of the loss of 3 of its executors; check the logs of the executors
            launch 1.0.0.3 on 4
            result of 1 at 1.0.0.3@4
        join 5 slots 2
            evict 4
            launch 1.0.0.4 on 5
            result of 1 at 1.0.0.4@5
        join 6 slots 2
            evict 5
            end 1: Internal: the query was stopped, because it is the likely cause of the loss of 5 of its executors; check the logs of the executors
        ",
    );
}

#[test]
fn an_executor_whose_cores_hang_gets_nothing_and_loses_what_it_has() {
    check(
        "
        config start_within=2
        join 1 slots 2
        submit 1
        planned 1: 2
        start 1.0.0.0
        beat 1 blocked 1 knowing 1.0.0.0 1.0.1.0
        start 1.0.1.0
        submit 2
        planned 2: 1
        beat 1 blocked 2 knowing 1.0.0.0 1.0.1.0
        executors
        join 2 slots 2
        beat 1 blocked 2 knowing 1.0.0.0 1.0.1.0
        beat 1
        executors
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 2
            launch 1.0.0.0 on 1
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@1 1.0.1.0@1
        submit 2
            plan 2 on 1
        ExecutorStatus { executor: ExecutorId(1), slots: 2, used_slots: 2, state: Suspected }
        join 2 slots 2
            launch 2.0.0.0 on 2
            result of 2 at 2.0.0.0@2
        beat 1 blocked 2 knowing 1.0.0.0 1.0.1.0
            abort 1.0.0.0 on 1
            abort 1.0.1.0 on 1
            launch 1.0.0.1 on 2
            result of 1 at 1.0.0.1@2
        ExecutorStatus { executor: ExecutorId(1), slots: 2, used_slots: 0, state: Suspected }
        ExecutorStatus { executor: ExecutorId(2), slots: 2, used_slots: 2, state: Usable }
        ",
    );
}

#[test]
fn an_executor_that_was_sent_away_is_not_held_against_the_query() {
    check(
        "
        config max_executor_losses=0
        join 1
        join 2
        submit 1
        planned 1: 1
        drain 2
        disconnect 2
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        disconnect 2
            evict 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        ",
    );
}

#[test]
fn a_task_that_is_not_begun_goes_elsewhere_and_its_executor_rests() {
    check(
        "
        config start_within=3
        join 1
        join 2
        submit 2
        planned 2: 1
        @1
        beat 1 knowing 2.0.0.0
        @2
        beat 1 knowing 2.0.0.0
        beat 2
        @3
        beat 1 knowing 2.0.0.0
        @4
        beat 1
        beat 2 knowing 2.0.0.1
        start 2.0.0.1
        executors
        @12
        beat 1
        beat 2 knowing 2.0.0.1
        @21
        beat 1
        beat 2 knowing 2.0.0.1
        @30
        beat 1
        beat 2 knowing 2.0.0.1
        @39
        beat 1
        beat 2 knowing 2.0.0.1
        @48
        beat 1
        beat 2 knowing 2.0.0.1
        @57
        beat 1
        beat 2 knowing 2.0.0.1
        @63
        beat 1
        executors
        ",
        "
        submit 2
            plan 2 on 1 2
        planned 2: 1
            launch 2.0.0.0 on 1
            result of 2 at 2.0.0.0@1
        beat 1 knowing 2.0.0.0
            abort 2.0.0.0 on 1
            launch 2.0.0.1 on 2
            result of 2 at 2.0.0.1@2
        ExecutorStatus { executor: ExecutorId(1), slots: 1, used_slots: 0, state: Suspected }
        ExecutorStatus { executor: ExecutorId(2), slots: 1, used_slots: 1, state: Usable }
        ExecutorStatus { executor: ExecutorId(1), slots: 1, used_slots: 0, state: Usable }
        ExecutorStatus { executor: ExecutorId(2), slots: 1, used_slots: 1, state: Usable }
        ",
    );
}
