//! Queries that need more rows or memory than their plan expected.

use super::check;

#[test]
fn what_outgrows_its_plan_is_planned_anew_once() {
    check(
        "
        join 1
        join 2
        submit 1
        planned 1: 1
        fail 1.0.0.0 outgrown
        finish 1.0.0.0
        unfetched 1.0.0.0
        planned 1: 2; 1 <- 0
        finish 1.0.0.0
        fail 1.0.0.1 outgrown
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 1
            launch 1.0.0.0 on 2
            result of 1 at 1.0.0.0@2
        fail 1.0.0.0 outgrown
            abort 1.0.0.0 on 2
            plan 1 anew after Outgrown on 1 2
        planned 1: 2; 1 <- 0
            launch 1.0.0.1 on 2
            launch 1.0.1.1 on 1
        fail 1.0.0.1 outgrown
            release 1 on 1
            release 1 on 2
            end 1: Outgrown: outgrown
        ",
    );
}

#[test]
fn rows_that_are_being_delivered_are_not_planned_anew() {
    check(
        "
        join 1
        submit 1
        planned 1: 1
        begun 1.0.0.0
        fail 1.0.0.0 outgrown
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 outgrown
            release 1 on 1
            end 1: Outgrown: outgrown
        ",
    );
}

#[test]
fn what_runs_out_of_memory_twice_is_planned_anew_where_waves_do_not_help() {
    check(
        "
        join 1 slots 2
        submit 1
        planned 1: 1; 2 <- 0
        finish 1.0.0.0
        fail 1.1.0.0 memory
        fail 1.1.0.1 memory
        planned 1: 2; 2 wavable <- 0
        finish 1.0.0.2
        finish 1.0.1.2
        fail 1.1.0.2 memory
        ",
        "
        submit 1
            plan 1 on 1
        planned 1: 1; 2 <- 0
            launch 1.0.0.0 on 1
            launch 1.1.0.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1
        finish 1.0.0.0
            launch 1.1.1.0 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.0@1 1.1.1.0@1
        fail 1.1.0.0 memory
            abort 1.1.0.0 on 1
            launch 1.1.0.1 on 1 < 1.0.0.0@1
            result of 1 at 1.1.0.1@1 1.1.1.0@1
        fail 1.1.0.1 memory
            abort 1.1.1.0 on 1
            abort 1.1.0.1 on 1
            abort 1.0.0.0 on 1
            plan 1 anew after ResourcesExhausted on 1
        planned 1: 2; 2 wavable <- 0
            launch 1.0.0.2 on 1
            launch 1.0.1.2 on 1
        finish 1.0.0.2
            launch 1.1.0.2 on 1 < 1.0.0.2@1 1.0.1.2@1
            result of 1 at 1.1.0.2@1
        finish 1.0.1.2
            launch 1.1.1.2 on 1 < 1.0.0.2@1 1.0.1.2@1
            result of 1 at 1.1.0.2@1 1.1.1.2@1
        fail 1.1.0.2 memory
            abort 1.1.0.2 on 1
            launch 1.1.0.3 on 1 < 1.0.0.2@1 1.0.1.2@1 in 4 waves
            result of 1 at 1.1.0.3@1 1.1.1.2@1
        ",
    );
}

#[test]
fn what_has_no_other_plan_gets_two_attempts() {
    check(
        "
        join 1
        submit 1
        planned 1 last: 1
        fail 1.0.0.0 memory
        fail 1.0.0.1 memory
        ",
        "
        submit 1
            plan 1 on 1
        planned 1 last: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 memory
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        fail 1.0.0.1 memory
            release 1 on 1
            end 1: ResourcesExhausted: memory
        ",
    );
}

#[test]
fn rows_that_an_earlier_plan_delivered_end_the_query() {
    let lost =
        "part of the result had already been delivered when task 1.0.0.1 was lost; the query may be submitted again";
    check(
        "
        join 1
        submit 1
        planned 1: 1
        fail 1.0.0.0 memory
        fail 1.0.0.1 memory
        begun 1.0.0.1
        ",
        &format!(
            "
        submit 1
            plan 1 on 1
        planned 1: 1
            launch 1.0.0.0 on 1
            result of 1 at 1.0.0.0@1
        fail 1.0.0.0 memory
            abort 1.0.0.0 on 1
            launch 1.0.0.1 on 1
            result of 1 at 1.0.0.1@1
        fail 1.0.0.1 memory
            abort 1.0.0.1 on 1
            plan 1 anew after ResourcesExhausted on 1
        begun 1.0.0.1
            release 1 on 1
            end 1: Unavailable: {lost}
        "
        ),
    );
}

#[test]
fn what_runs_out_of_memory_waits_for_its_siblings_on_that_executor() {
    check(
        "
        join 1 slots 4
        join 2
        submit 1
        planned 1: 3 wavable; 1 <- 0c
        fail 1.0.1.0 memory
        fail 1.0.2.0 memory
        finish 1.0.0.0
        ",
        "
        submit 1
            plan 1 on 1 2
        planned 1: 3 wavable; 1 <- 0c
            launch 1.0.0.0 on 2
            launch 1.0.1.0 on 1
            launch 1.0.2.0 on 1
        fail 1.0.1.0 memory
            abort 1.0.1.0 on 1
        fail 1.0.2.0 memory
            abort 1.0.2.0 on 1
            launch 1.0.1.1 on 1 in 4 waves
        finish 1.0.0.0
            launch 1.0.2.1 on 2 in 4 waves
        ",
    );
}
