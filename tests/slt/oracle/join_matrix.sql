-- Every join type against every kind of condition and side, counted and summed so that a wrong row shows.

-- Keys with NULLs.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a inner join t2 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a left join t2 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a right join t2 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a full join t2 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left semi join t2 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left anti join t2 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right semi join t2 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right anti join t2 b on a.k = b.k;

-- An empty right side.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a inner join t4 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a left join t4 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a right join t4 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a full join t4 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left semi join t4 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left anti join t4 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right semi join t4 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right anti join t4 b on a.k = b.k;

-- An empty left side.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t4 a inner join t1 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t4 a left join t1 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t4 a right join t1 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t4 a full join t1 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t4 a left semi join t1 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t4 a left anti join t1 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t4 a right semi join t1 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t4 a right anti join t1 b on a.k = b.k;

-- A skewed right side.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a inner join t3 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a left join t3 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a right join t3 b on a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a full join t3 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t2 a left semi join t3 b on a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t2 a left anti join t3 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t2 a right semi join t3 b on a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t2 a right anti join t3 b on a.k = b.k;

-- Keys and a filter.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a inner join t2 b on a.k = b.k and a.x > b.w;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a left join t2 b on a.k = b.k and a.x > b.w;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a right join t2 b on a.k = b.k and a.x > b.w;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a full join t2 b on a.k = b.k and a.x > b.w;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left semi join t2 b on a.k = b.k and a.x > b.w;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left anti join t2 b on a.k = b.k and a.x > b.w;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right semi join t2 b on a.k = b.k and a.x > b.w;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right anti join t2 b on a.k = b.k and a.x > b.w;

-- NULL equals NULL.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a inner join t2 b on a.k is not distinct from b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a left join t2 b on a.k is not distinct from b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a right join t2 b on a.k is not distinct from b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a full join t2 b on a.k is not distinct from b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left semi join t2 b on a.k is not distinct from b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left anti join t2 b on a.k is not distinct from b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right semi join t2 b on a.k is not distinct from b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right anti join t2 b on a.k is not distinct from b.k;

-- Two keys.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a inner join t3 b on a.id = b.id and a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a left join t3 b on a.id = b.id and a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a right join t3 b on a.id = b.id and a.k = b.k;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t2 a full join t3 b on a.id = b.id and a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t2 a left semi join t3 b on a.id = b.id and a.k = b.k;
select count(*), sum(a.id), min(a.id), max(a.id) from t2 a left anti join t3 b on a.id = b.id and a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t2 a right semi join t3 b on a.id = b.id and a.k = b.k;
select count(*), sum(b.id), min(b.id), max(b.id) from t2 a right anti join t3 b on a.id = b.id and a.k = b.k;

-- A range and no key.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 150) a inner join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 150) a left join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 150) a right join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 150) a full join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), sum(a.id), min(a.id), max(a.id) from (select * from t1 where id <= 150) a left semi join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), sum(a.id), min(a.id), max(a.id) from (select * from t1 where id <= 150) a left anti join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), sum(b.id), min(b.id), max(b.id) from (select * from t1 where id <= 150) a right semi join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;
select count(*), sum(b.id), min(b.id), max(b.id) from (select * from t1 where id <= 150) a right anti join (select * from t2 where id <= 120) b on a.k < b.k and b.k < a.k + 4;

-- Keys and a filter on the left.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a inner join t2 b on a.k = b.k and a.g = 'ash';
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a left join t2 b on a.k = b.k and a.g = 'ash';
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a right join t2 b on a.k = b.k and a.g = 'ash';
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a full join t2 b on a.k = b.k and a.g = 'ash';
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left semi join t2 b on a.k = b.k and a.g = 'ash';
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left anti join t2 b on a.k = b.k and a.g = 'ash';
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right semi join t2 b on a.k = b.k and a.g = 'ash';
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right anti join t2 b on a.k = b.k and a.g = 'ash';

-- Keys and a filter on the right.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a inner join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a left join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a right join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from t1 a full join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left semi join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), sum(a.id), min(a.id), max(a.id) from t1 a left anti join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right semi join t2 b on a.k = b.k and b.name = 'name-7';
select count(*), sum(b.id), min(b.id), max(b.id) from t1 a right anti join t2 b on a.k = b.k and b.name = 'name-7';

-- A disjunction.
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 200) a inner join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 200) a left join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 200) a right join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), count(a.id), count(b.id), sum(a.id), sum(b.id) from (select * from t1 where id <= 200) a full join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), sum(a.id), min(a.id), max(a.id) from (select * from t1 where id <= 200) a left semi join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), sum(a.id), min(a.id), max(a.id) from (select * from t1 where id <= 200) a left anti join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), sum(b.id), min(b.id), max(b.id) from (select * from t1 where id <= 200) a right semi join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
select count(*), sum(b.id), min(b.id), max(b.id) from (select * from t1 where id <= 200) a right anti join (select * from t2 where id <= 100) b on a.k + 1 = b.k + 3 or a.id = b.id;
