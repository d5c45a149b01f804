//! Queries that are more than their plan was made for.

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
            plan 1 anew on 1 2
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
