//! Reports that are late, repeated or wrong, and failures by kind.

use super::check;

#[test]
fn reports_that_do_not_count_are_ignored() {
    check(
        "
        join 1 slots 1
        join 2 slots 1
        submit 1
        planned 1: 1; 1 <- 0c
        finish 1.0.0.0 from 1
        finish 1.0.5.0 from 2
        finish 1.0.0.1 from 2
        finish 9.0.0.0 from 2
        fail 1.0.0.0 internal from 1
        finish 1.0.0.0
        start 1.0.0.0
        finish 1.0.0.0
        fail 1.0.0.0 internal
        status 1
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1; 1 <- 0c
            launch 1.0.0.0 on 2
        finish 1.0.0.0
            launch 1.1.0.0 on 2 < 1.0.0.0@2
            result of 1 at 1.1.0.0@2
        status 1: Some(QueryStatus { state: Running, waiting_for_executors: false, stages: [StageStatus { tasks: 1, running: 0, finished: 1, output_rows: 10, output_bytes: 80 }, StageStatus { tasks: 1, running: 1, finished: 0, output_rows: 0, output_bytes: 0 }] })
        ",
    );
}

#[test]
fn an_error_of_the_user_ends_the_query() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 2
        fail 1.0.1.0 user
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 2
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            result of 1 at 1.0.0.0@2 1.0.1.0@1
        fail 1.0.1.0 user
            release 1 on 1
            release 1 on 2
            end 1: UserError: user
        ",
    );
}

#[test]
fn a_canceled_attempt_ends_the_query() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        fail 1.0.0.0 canceled
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 canceled
            release 1 on 1
            end 1: Canceled: canceled
        ",
    );
}

#[test]
fn a_defect_is_tried_once_more_elsewhere() {
    check(
        "
        join 1 slots 4
        join 2 slots 1
        submit 1
        planned 1: 1
        fail 1.0.0.0 internal
        fail 1.0.0.1 internal
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        fail 1.0.0.0 internal
            abort 1.0.0.0 on 2
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        fail 1.0.0.1 internal
            release 1 on 1
            release 1 on 2
            end 1: Internal: internal
        ",
    );
}

#[test]
fn a_lone_executor_gets_the_second_attempt_too() {
    check(
        "
        join 1 slots 4
        submit 1
        planned 1: 1
        fail 1.0.0.0 internal
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 internal
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        ",
    );
}

#[test]
fn unavailability_is_tried_four_times() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        fail 1.0.0.0 unavailable
        fail 1.0.0.1 lost
        fail 1.0.0.2 unavailable
        fail 1.0.0.3 unavailable
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 unavailable
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        fail 1.0.0.1 lost
            abort 1.0.0.1 on 1
            launch 1.0.0.2 on 1
            result of 1 at 1.0.0.2@1
        fail 1.0.0.2 unavailable
            abort 1.0.0.2 on 1
            launch 1.0.0.3 on 1
            result of 1 at 1.0.0.3@1
        fail 1.0.0.3 unavailable
            release 1 on 1
            end 1: Unavailable: unavailable
        ",
    );
}

#[test]
fn short_memory_means_more_waves_and_then_another_plan() {
    check(
        "
        config max_waves=10
        join 1
        submit 1
        planned 1: 1 wavable
        fail 1.0.0.0 memory
        fail 1.0.0.1 memory
        fail 1.0.0.2 memory
        fail 1.0.0.3 memory
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1 wavable
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 memory
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1 in 4 waves
            result of 1 at 1.0.0.1@1
        fail 1.0.0.1 memory
            abort 1.0.0.1 on 1
            launch 1.0.0.2 on 1 in 10 waves
            result of 1 at 1.0.0.2@1
        fail 1.0.0.2 memory
            abort 1.0.0.2 on 1
            launch 1.0.0.3 on 1 in 10 waves
            result of 1 at 1.0.0.3@1
        fail 1.0.0.3 memory
            abort 1.0.0.3 on 1
            plan 1 anew after ResourcesExhausted on 1
        ",
    );
}

#[test]
fn an_unreadable_output_is_made_again_and_the_reader_is_not_blamed() {
    check(
        "
        join 1 slots 2
        submit 1
        planned 1: 1; 1 <- 0
        finish 1.0.0.0
        fail 1.1.0.0 exchange 1.0.0.0
        # It may be dead, so it is given nothing until it is heard.
        fail 1.1.0.0 exchange 1.0.0.0
        beat 1
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0
            launch 1.0.0.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1
        fail 1.1.0.0 exchange 1.0.0.0
            abort 1.1.0.0 on 1
            abort 1.0.0.0 on 1
        beat 1
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.1@1
        ",
    );
}

#[test]
fn a_loss_of_an_output_that_is_being_replaced_only_restarts_the_reader() {
    check(
        "
        join 1 slots 3
        submit 1
        planned 1: 1; 2 <- 0
        finish 1.0.0.0
        read 1.1.0.0 1.0.0.0
        fail 1.1.1.0 exchange 1.0.0.0
        beat 1
        fail 1.1.0.0 exchange 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 2 <- 0
            launch 1.0.0.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            launch 1.1.1.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        fail 1.1.1.0 exchange 1.0.0.0
            abort 1.1.1.0 on 1
            abort 1.0.0.0 on 1
        beat 1
            launch 1.0.0.1 on 1
            launch 1.1.1.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.0@1 1.1.1.1@1
        fail 1.1.0.0 exchange 1.0.0.0
            abort 1.1.0.0 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.1@1 1.1.1.1@1
        ",
    );
}

#[test]
fn an_output_that_stays_unreadable_ends_the_query() {
    check(
        "
        join 1 slots 2
        submit 1
        planned 1: 1; 1 <- 0
        fail 1.1.0.0 exchange 1.0.0.0
        beat 1
        fail 1.1.0.1 exchange 1.0.0.1
        beat 1
        fail 1.1.0.2 exchange 1.0.0.2
        beat 1
        fail 1.1.0.3 exchange 1.0.0.3
        beat 1
        fail 1.1.0.4 exchange 1.0.0.4
        beat 1
        fail 1.1.0.5 exchange 1.0.0.5
        beat 1
        fail 1.1.0.6 exchange 1.0.0.6
        beat 1
        fail 1.1.0.7 exchange 1.0.0.7
        beat 1
        fail 1.1.0.8 exchange 1.0.0.8
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 1 <- 0
            launch 1.0.0.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1
        fail 1.1.0.0 exchange 1.0.0.0
            abort 1.1.0.0 on 1
            abort 1.0.0.0 on 1
        beat 1
            launch 1.0.0.1 on 1
            launch 1.1.0.1 on 1 < 1.0.0.1@1
            result of 1 at 1.1.0.1@1
        fail 1.1.0.1 exchange 1.0.0.1
            abort 1.1.0.1 on 1
            abort 1.0.0.1 on 1
        beat 1
            launch 1.0.0.2 on 1
            launch 1.1.0.2 on 1 < 1.0.0.2@1
            result of 1 at 1.1.0.2@1
        fail 1.1.0.2 exchange 1.0.0.2
            abort 1.1.0.2 on 1
            abort 1.0.0.2 on 1
        beat 1
            launch 1.0.0.3 on 1
            launch 1.1.0.3 on 1 < 1.0.0.3@1
            result of 1 at 1.1.0.3@1
        fail 1.1.0.3 exchange 1.0.0.3
            abort 1.1.0.3 on 1
            abort 1.0.0.3 on 1
        beat 1
            launch 1.0.0.4 on 1
            launch 1.1.0.4 on 1 < 1.0.0.4@1
            result of 1 at 1.1.0.4@1
        fail 1.1.0.4 exchange 1.0.0.4
            abort 1.1.0.4 on 1
            abort 1.0.0.4 on 1
        beat 1
            launch 1.0.0.5 on 1
            launch 1.1.0.5 on 1 < 1.0.0.5@1
            result of 1 at 1.1.0.5@1
        fail 1.1.0.5 exchange 1.0.0.5
            abort 1.1.0.5 on 1
            abort 1.0.0.5 on 1
        beat 1
            launch 1.0.0.6 on 1
            launch 1.1.0.6 on 1 < 1.0.0.6@1
            result of 1 at 1.1.0.6@1
        fail 1.1.0.6 exchange 1.0.0.6
            abort 1.1.0.6 on 1
            abort 1.0.0.6 on 1
        beat 1
            launch 1.0.0.7 on 1
            launch 1.1.0.7 on 1 < 1.0.0.7@1
            result of 1 at 1.1.0.7@1
        fail 1.1.0.7 exchange 1.0.0.7
            abort 1.1.0.7 on 1
            abort 1.0.0.7 on 1
        beat 1
            launch 1.0.0.8 on 1
            launch 1.1.0.8 on 1 < 1.0.0.8@1
            result of 1 at 1.1.0.8@1
        fail 1.1.0.8 exchange 1.0.0.8
            release 1 on 1
            end 1: Unavailable: task 1.1.0.8 could not read the output of task 1.0.0.8, nor that of the attempts before it; check the network between executors
        ",
    );
}
