//! Runs queries over small tables and checks their rows, that common queries keep DataFusion's plans, and errors.

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::OptimizerRule;
use datafusion::prelude::SessionContext;

use super::{ExactSubqueriesRule, PlacedSubqueriesRule};
use crate::optimizer_rules;

/// `o` has the outer rows; `i` has NULLs and duplicates, `n` has no NULLs, `e` no rows.
const TABLES: [&str; 7] = [
    "create table o(id int, x int, k int, g int) as values (1, 1, 1, 1), (2, 2, 1, 1), (3, 3, 2, 1), (4, null, 2, 2), \
     (5, 5, null, 2), (6, 2, 3, null), (7, null, null, 3), (8, 7, 9, 3), (9, 2, 1, 1)",
    "create table i(e int, k int, g int) as values (1, 1, 1), (null, 1, 2), (2, 1, 1), (3, 2, 1), (3, 2, 1), \
     (5, null, 2), (null, null, 2), (2, 5, 3)",
    "create table n(e int not null, k int not null) as values (1, 1), (2, 1), (3, 2), (3, 2), (2, 5)",
    "create table x(x int not null, k int not null) as values (1, 1), (2, 1), (3, 2), (4, 9)",
    "create table a(id int, v int) as values (1, 10), (2, 20), (3, null)",
    "create table b(id int, y int) as values (1, 1), (2, 2), (2, 3), (null, 1)",
    "create table e(e int, k int) as select * from (values (1, 2)) where false",
];

async fn with_tables(state: SessionState) -> SessionContext {
    let context = SessionContext::new_with_state(state);
    for table in TABLES {
        context.sql(table).await.unwrap().collect().await.unwrap();
    }
    context
}

async fn exact() -> SessionContext {
    let state = SessionStateBuilder::new().with_default_features().with_optimizer_rules(optimizer_rules());
    with_tables(state.with_analyzer_rule(Arc::new(PlacedSubqueriesRule)).build()).await
}

/// A session without the rules under test.
async fn plain() -> SessionContext {
    let mut rules = optimizer_rules();
    rules.retain(|rule| rule.name() != ExactSubqueriesRule.name());
    with_tables(SessionStateBuilder::new().with_default_features().with_optimizer_rules(rules).build()).await
}

async fn rows(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let options = FormatOptions::default().with_null("NULL");
    let mut rows: Vec<String> = vec![];
    for batch in &batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap());
        let columns: Vec<_> = columns.collect();
        for row in 0..batch.num_rows() {
            let values: Vec<_> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(values.join(" "));
        }
    }
    rows.sort();
    rows.join(", ")
}

#[tokio::test]
async fn subqueries_have_the_rows_of_sql() {
    let context = exact().await;
    for (sql, expected) in CASES {
        assert_eq!(rows(&context, sql).await, expected, "{sql}");
    }
}

/// Subqueries that DataFusion gets right keep its plans.
#[tokio::test]
async fn common_subqueries_keep_their_plans() {
    let (exact, plain) = (exact().await, plain().await);
    for sql in KEPT {
        let plan = async |context: &SessionContext| {
            let frame = context.sql(sql).await.unwrap();
            frame.into_optimized_plan().unwrap().display_indent().to_string()
        };
        assert_eq!(plan(&exact).await, plan(&plain).await, "{sql}");
    }
}

#[tokio::test]
async fn what_cannot_be_right_is_refused() {
    let context = exact().await;
    for (sql, reason) in REFUSED {
        let planned = context.sql(sql).await.and_then(|frame| frame.into_optimized_plan());
        let error = planned.expect_err(sql).to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
}

const KEPT: [&str; 14] = [
    "select id from o where exists (select * from i where i.k = o.k and i.e <> o.x)",
    "select id from o where not exists (select * from i, a where i.k = o.k and a.id = i.e) and x > 1",
    "select id from o where x in (select e from i) and k = 1",
    "select id from o where x in (select e from i where i.k = o.k group by e having count(*) > 1)",
    "select id from o where x not in (select e from n)",
    "select id from o where x not in (select e from i)",
    "select id from o where x + 1 not in (select e from i where k = 1)",
    "select id from o where k = 1 or exists (select 1 from i where i.k = o.k) or x in (select e from i)",
    "select id from o where x > (select 1.2 * avg(e) from i, a where i.k = o.k and a.id = i.e)",
    "select id, (select count(*) from i where i.k = o.k) from o",
    "select id from o where x in (select e from i where i.k in (select k from n) and i.e > (select avg(e) from n where n.k = i.k))",
    "with q as (select k, sum(x) as s from o group by k) select k from q p where s > (select avg(s) * 1.2 from q r where r.k = p.k)",
    "select o.id, l.e from o, lateral (select e from i where i.k = o.k) l",
    "select o.id, l.c from o left join lateral (select count(*) as c from i where i.k = o.k) l on true",
];

const REFUSED: [(&str, &str); 5] = [
    (
        "select o.id from o left join a on exists (select 1 from i where i.k = o.k and i.e = a.id)",
        "cannot use columns of both sides",
    ),
    ("select id, x in (select e from i limit 2) from o", "may have other rows when it is read again"),
    ("select count(*) from o group by rollup (exists (select 1 from i))", "GROUPING SETS, ROLLUP or CUBE"),
    (
        "select id from (select id, x + random() * 0 as r from o) q where exists (select 1 from i where i.e > q.r offset 1)",
        "cannot refer to q.r, which is of type Float64",
    ),
    (
        "select id from (select id, cast(x + random() as int) as r from o) q \
         where exists (select 1 from i where i.e > q.r offset 1)",
        "reads the rows of the outer query twice",
    ),
];

const CASES: [(&str, &str); 49] = [
    ("select id from o o where x not in (select e from i i where i.k = o.k)", "5, 6, 7, 8"),
    ("select id from o o where 9 not in (select e from i i where i.k = o.k)", "3, 4, 5, 6, 7, 8"),
    ("select id from o o where x not in (select e from i i where i.k < o.k)", "1, 2, 5, 7, 9"),
    ("select id from o where cast(null as int) not in (select e from n)", ""),
    ("select id from o where 9 not in (select e from i)", ""),
    ("select x from x where nullif(x, 2) not in (select e from n)", "4"),
    ("select id from o where x in (select e from i) is null", "4, 7, 8"),
    (
        "select id from o where case when x not in (select e from i where k = 1) then false else true end",
        "1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    ("select id from o o where x > all (select e from i i where i.k = o.k)", "5, 6, 7, 8"),
    (
        "select id, x not in (select e from i i where i.k = o.k) as absent from o o",
        "1 false, 2 false, 3 false, 4 NULL, 5 true, 6 true, 7 true, 8 true, 9 false",
    ),
    (
        "select 1 in (select e from i), 9 in (select e from i) as q, 9 in (select e from n) as r, null in (select e from e) as s",
        "true NULL false false",
    ),
    (
        "select id, exists (select 1 from i i where i.k = o.k) from o o",
        "1 true, 2 true, 3 true, 4 true, 5 false, 6 false, 7 false, 8 false, 9 true",
    ),
    (
        "select exists (select 1 from i i where i.k = o.k) as q, count(*) from o o group by exists (select 1 from i i where i.k = o.k)",
        "false 4, true 5",
    ),
    ("select sum(case when exists (select 1 from i i where i.k = o.k) then id else 100 end) from o o", "419"),
    (
        "select k, count(*) from o o group by k having not exists (select 1 from i i where i.k = o.k)",
        "3 1, 9 1, NULL 2",
    ),
    (
        "select id, rank() over (order by exists (select 1 from i i where i.k = o.k), id) from o o",
        "1 5, 2 6, 3 7, 4 8, 5 1, 6 2, 7 3, 8 4, 9 9",
    ),
    (
        "select id, k from o o order by (select count(*) from i i where i.k = o.k), id limit 6",
        "3 2, 4 2, 5 NULL, 6 3, 7 NULL, 8 9",
    ),
    (
        "select o.id, a.id from o o full join a a on o.x = a.id and a.id in (select e from n) and exists (select 1 from i i where i.k = o.k)",
        "1 1, 2 2, 3 3, 4 NULL, 5 NULL, 6 NULL, 7 NULL, 8 NULL, 9 2",
    ),
    (
        "select o.id, a.id from o o left join a a on o.x = a.id and exists (select 1 from i i where i.k = o.k)",
        "1 1, 2 2, 3 3, 4 NULL, 5 NULL, 6 NULL, 7 NULL, 8 NULL, 9 2",
    ),
    (
        "select o.id, a.id from o o join a a on exists (select 1 from i i where i.k = o.k and i.e = a.id)",
        "1 1, 1 2, 2 1, 2 2, 3 3, 4 3, 9 1, 9 2",
    ),
    ("select id from o o where exists (select count(*) from i i where i.k = o.k)", "1, 2, 3, 4, 5, 6, 7, 8, 9"),
    ("select id from o o where x in (select count(*) from i i where i.k = o.k)", ""),
    ("select id from o o where exists (select count(*) from i i where i.k = o.k having count(*) = 0)", "5, 6, 7, 8"),
    (
        "select id, (select count(*) from i i where i.k = o.k having count(*) > o.x) as c from o o",
        "1 3, 2 3, 3 NULL, 4 NULL, 5 NULL, 6 NULL, 7 NULL, 8 NULL, 9 3",
    ),
    (
        "select id, (select count(*) * 0 from i i where i.k = o.k) as c from o o",
        "1 0, 2 0, 3 0, 4 0, 5 0, 6 0, 7 0, 8 0, 9 0",
    ),
    (
        "select id, (select count(*) from (select distinct e from i i where i.k = o.k) q) as c from o o",
        "1 3, 2 3, 3 1, 4 1, 5 0, 6 0, 7 0, 8 0, 9 3",
    ),
    (
        "select id, (select count(*) from (values (1.2), (1.4), (2.0)) f(v) where cast(f.v as int) = o.k) as c from o o",
        "1 2, 2 2, 3 1, 4 1, 5 0, 6 0, 7 0, 8 0, 9 2",
    ),
    (
        "select id from o o where 1 not in (select a.id from a a left join (select * from b b where b.y = o.k) b on a.id = b.id where b.id is null)",
        "1, 2, 9",
    ),
    (
        "select id from o o where 2 in (select a.id from a a left join (select * from b b where b.y = o.k) b on a.id = b.id where b.y is null)",
        "1, 2, 5, 7, 8, 9",
    ),
    (
        "select id, exists (select 1 from a a left join (select * from b b where b.y = o.k) b on a.id = b.id where b.y is null) as q from o o",
        "1 true, 2 true, 3 true, 4 true, 5 true, 6 true, 7 true, 8 true, 9 true",
    ),
    (
        "select id from o o where exists (select 1 from (select * from a a where a.id = o.k) a full join (select * from b b where b.y = o.k) b on a.id = b.id where a.id is null)",
        "1, 2, 6, 9",
    ),
    ("select id from o o where exists (select 1 from i i where i.k = o.k offset 2)", "1, 2, 9"),
    (
        "select id from o o where exists (select count(*) from (select * from i i where i.k = o.k limit 1) q having count(*) > 1)",
        "",
    ),
    (
        "select id, (select e from i i where i.k = o.k order by e limit 1) as e from o o",
        "1 1, 2 1, 3 3, 4 3, 5 NULL, 6 NULL, 7 NULL, 8 NULL, 9 1",
    ),
    (
        "select id from o o where x not in (select e from i i where i.k = o.k union select e from n n where n.k = o.k)",
        "5, 6, 7, 8",
    ),
    (
        "select id from o o where exists (select e from i i except select e from n n where n.k = o.k)",
        "1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    ("select id from o o where x in (select max(e) over () from i i where i.k = o.k)", "2, 3, 9"),
    (
        "select id, (select o.x + 1) as c, (select o.x where o.k = 1) as d from o o",
        "1 2 1, 2 3 2, 3 4 NULL, 4 NULL NULL, 5 6 NULL, 6 3 NULL, 7 NULL NULL, 8 8 NULL, 9 3 2",
    ),
    ("select id from o o where exists (select 1 from i i, n n where i.k = o.k and n.k = o.x)", "1, 2, 9"),
    ("select id from o o where not exists (select * from n n, i i where i.k = o.x and n.e < 2)", "3, 4, 7, 8"),
    (
        "select id from o o where exists (select 1 from (select e from i i where i.k = o.k) q, a a where q.e = a.id)",
        "1, 2, 3, 4, 9",
    ),
    (
        "select id from o o where not exists (select 1 from i i where not exists (select 1 from n n where n.k = o.k and n.e = i.e))",
        "",
    ),
    (
        "select id from o o where exists (select 1 from i i where o.x not in (select n.e from n n where n.k = i.k))",
        "1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    (
        "select id, (select count(*) from i i where i.e in (select n.e from n n where n.k = o.k)) as c from o o",
        "1 3, 2 3, 3 2, 4 2, 5 0, 6 0, 7 0, 8 0, 9 3",
    ),
    (
        "select id from o o where exists (select 1 from a a where a.id = (select min(n.e) from n n where n.k = o.k))",
        "1, 2, 3, 4, 9",
    ),
    (
        "select id, q.e from o o, lateral (select e from i i where i.k = o.k order by e limit 1) q",
        "1 1, 2 1, 3 3, 4 3, 9 1",
    ),
    (
        "select id, q.c from o o, lateral (select count(*) c from i i where i.k = o.k having count(*) > 1) q",
        "1 3, 2 3, 3 2, 4 2, 9 3",
    ),
    (
        "select id, q.c from o o left join lateral (select b.y as c from a a left join (select * from b b where b.y = o.k) b on a.id = b.id) q on true",
        "1 1, 1 NULL, 1 NULL, 2 1, 2 NULL, 2 NULL, 3 2, 3 NULL, 3 NULL, 4 2, 4 NULL, 4 NULL, 5 NULL, 5 NULL, 5 NULL, 6 3, 6 NULL, 6 NULL, 7 NULL, 7 NULL, 7 NULL, 8 NULL, 8 NULL, 8 NULL, 9 1, 9 NULL, 9 NULL",
    ),
    (
        "select id, q.five, q.c from o o, lateral (select 5 as five, count(*) as c from i i where i.k = o.k) q",
        "1 5 3, 2 5 3, 3 5 2, 4 5 2, 5 5 0, 6 5 0, 7 5 0, 8 5 0, 9 5 3",
    ),
];
