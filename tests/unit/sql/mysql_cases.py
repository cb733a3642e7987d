"""Texts and what they may do to a session of MySQL or MariaDB: `CASES`, (text, mask, database, escapes, dialect).

Read it as the manual of what pins. A text found to be judged wrongly is added here first; none is ever deleted.
"""

from typing import NamedTuple

from proxy.reasons import PinReason as P
from proxy.sql._lex import (
    CALC_FOUND_ROWS,
    DIAGNOSTICS,
    DROP_DATABASE,
    EMPTY,
    FOUND_ROWS,
    LAST_INSERT_ID,
    LAST_INSERT_ID_SET,
    MULTIPLE,
    ROW_COUNT,
    TRANSACTION_START,
    USE_DATABASE,
    Dialect,
)
from tests.unit.sql.lex_cases import bit


class MysqlCase(NamedTuple):
    text: bytes
    mask: int
    database: bytes = b""
    escapes: bool = True  # not NO_BACKSLASH_ESCAPES
    dialect: int = Dialect.MYSQL


CASES: list[MysqlCase] = []


def _all(mask: int, *texts: bytes, escapes: bool = True, dialect: int = Dialect.MYSQL) -> None:
    CASES.extend(MysqlCase(text, mask, b"", escapes, dialect) for text in texts)


SETTING, ROLE, PREPARED, TEMPORARY, CURSOR = map(
    bit, (P.PIN_SETTING, P.PIN_ROLE, P.PIN_PREPARED_SQL, P.PIN_TEMPORARY_OBJECT, P.PIN_CURSOR)
)
VARIABLE, TABLES, LOCK, XA, BLOCK, SEQUENCE, UNREADABLE = map(
    bit,
    (
        P.PIN_USER_VARIABLE,
        P.PIN_TABLE_LOCK,
        P.PIN_ADVISORY_LOCK,
        P.PIN_XA,
        P.PIN_DO_BLOCK,
        P.PIN_SEQUENCE,
        P.PIN_UNREADABLE,
    ),
)

# ---------------------------------------------------------------- nothing at all
_all(EMPTY, b"", b" \t\r\n\f\v", b";", b" ; ;; ", b"-- nothing", b"--", b"# no", b"/* no */ -- thing\n;", b"/**/;/***/")

# ---------------------------------------------------------------- nothing that stays behind
_all(
    0,
    b"select 1",
    b"SELECT 'SET x = 1'",
    b"(select 1) union (select 2)",
    b"select 1;",
    b"update t set a = 1, b = b + 1",
    b"insert into t set a = 1",
    b"insert into t (a, b) values (1, 'x'), (2, 'y') on duplicate key update a = values(a)",
    b"replace into t values (1)",
    b"delete from t where a = 1 limit 1",
    b"alter table t default character set utf8mb4",
    b"create table t (a int default 1, temporary int)",
    b"create table `temporary` (a int)",
    b"create or replace view v as select 1",
    b"create database d default character set utf8mb4",
    b"drop temporary table t",
    b"drop table if exists t",
    b"commit",
    b"rollback to savepoint a",
    b"start replica",
    b"start slave",
    b"unlock tables",
    b"flush tables",
    b"flush local privileges",
    b"flush tables a, b",
    b"backup unlock",
    b"select release_lock('a'), is_free_lock('a'), is_used_lock('a'), release_all_locks()",
    b"show tables",
    b"show variables like 'warnings'",
    b"show create table warnings",
    b"show session status",
    b"select @x, @@x, @@session.x, @@global.x",
    b"select @'a b', @`c d`, @\"e\", @a.b$c",
    b"select * from t where a = @x and b = @ y",
    b"select 1 into outfile '/tmp/x'",
    b"select 1 into dumpfile 'x'",
    b"load data local infile 'x' into table t fields terminated by '@' (a, b)",
    b"load index into cache t",
    b"call p()",
    b"call p(1, 'x', @@x)",
    b"do sleep(1)",
    b"kill query 5",
    b"grant all on *.* to 'u'@'h'",
    b"create definer = root@localhost view v as select 1",
    b"explain select 1",
    b"explain format=json select 1",
    b"with q as (select 1) select * from q",
    b"table t",
    b"handler t read next",
    b"handler t close",
    b"xa commit 'a'",
    b"xa rollback 'a', 'b', 1",
    b"xa recover",
    b"select {d '2024-01-01'}",
    b"setx = 1",
    b"set$x = 1",
    b"`set` x = 1",
    b"get_lock",
    b"select get_lock from t",
    b"select get_lock, (1)",
    b"select my_get_lock('a', 1)",
    b"select `get_lock `('a', 1)",
    b"select next from t",
    b"select next value from t",
    b"select found_rows, row_count, last_insert_id from t",
    b"select t.identity, @identity, @warning_count",
    b"select case when 1 then 2 else 3 end",
    b"select if(1, 2, 3), repeat('a', 3), left('a', 1)",
    b"select a.set, b.lock from a, b",
    b"select caf\xc3\xa9 from t",
    b"select 'a' collate utf8mb4_bin, _utf8'a', N'a', n'a', x'41', b'01', 0x41, 0b01, X'41'",
    b"select 1e5, 1.5e-3, .5, 1., 1e, 1abc, 0xzz, 2e+x",
    b'select \'{"a": "b"}\'',
    b"select \\N",
)

# ---------------------------------------------------------------- SET
_all(
    SETTING,
    b"set x = 1",
    b"SET x := 1",
    b" \n/* a */ -- b\n# c\n set sql_mode = ''",
    b"set session x = 1",
    b"set local x = 1",
    b"set @@x = 1",
    b"set @@session.x = 1",
    b"set @@local.x = 1",
    b"set @@session . x = 1",
    b"set @@`x` = 1",
    b"set @@`global`.x = 1",
    b"set `x` = 1",
    b"set autocommit = 0",
    b"set names utf8mb4 collate utf8mb4_bin",
    b"set names default",
    b"set character set latin1",
    b"set charset latin1",
    b"set transaction isolation level read committed, read only",
    b"set transaction read only",
    b"set session transaction isolation level serializable",
    b"SET LOCAL TRANSACTION READ WRITE",
    b"set resource group rg",
    b"set global x = 1, session y = 2",
    b"set global x = 1, @@y = 2",
    b"set @@global.x = 1, y = 2",
    b"set @@persist.x = 1, y = 2",
    b"set global x = 1, names utf8",
    b"set global x = (select 1, 2), @@session.y = 2",
    b"set password = 'x', y = 1",
    b"set password for u = 'x', y = 1",
    b"set default role a to u, y = 1",
    b"set default role a for u, names utf8",
    b"set password.x = 1",
    b"set global.x = 1",
    b"set @@global = 1",
    b"set default_week_format = 1",
    b"set timestamp = 1, insert_id = 5",
    b"set validate_password.policy = 1",
    b"set/**/x=1",
    b"set#\nx=1",
    b"set-- \nx=1",
    b"set",
    b"set session",
    b"set @@",
    b"set global",
    b"set global x = 1,",
    b"set statement",
    b"set statement a = 1 for set session b = 1",
    b"binlog 'x'",
)
_all(SETTING | MULTIPLE, b"select 1; set x = 1", b"select ';'; set x = 1; select ';'", b"select (1; set x = 1")
_all(
    0,
    b"set global x = 1",
    b"SET GLOBAL x := 1",
    b"set @@global.x = 1",
    b"set @@GLOBAL . x := 1, @@global.y = 2",
    b"set persist x = 1",
    b"set persist_only x = 1",
    b"set @@persist.x = 1, @@persist_only.y = 2",
    b"set global x = 1, y = 2",
    b"set global x = (select a, b from t), `y` = default",
    b"set global hot.key_buffer_size = 1",
    b"set global x = @@session.y",
    b"set global x = @y",
    b"set global transaction isolation level read committed, read only",
    b"set password = 'x'",
    b"set password for 'u'@'h' = 'x'",
    b"set password to random",
    b"set default role none to u",
    b"set default role a, b to u, 'v'@'h'",
    b"set statement max_statement_time = 1, x = (select 1 for update) for select 1",
)
_all(ROLE, b"set role r", b"SET ROLE NONE", b"set session authorization u@h")
_all(ROLE | SETTING, b"set role all except a, b", b"set role r, x = 1", b"set x = 1, role r")
_all(
    VARIABLE,
    b"set @x = 1",
    b"set @x := 1",
    b"set @'a b' = 1",
    b"set @`x` = 1",
    b'set @"x" = 1',
    b"set @x.y = 1",
    b"set global x = 1, @y = 2",
    b"set @x = 1, global y = 2",
    b"set global x = (@y := 1)",
    b"set @x = @x + 1",
    b"set @OLD_SQL_MODE = @@sql_mode",
    b"set @",
    b"select @x := 1",
    b"select @x:=@x+1 from t",
    b"select @x /* */ := -- \n 1",
    b"select @`x` := 1",
    b"select @'x':=1",
    b"update t set a = @x := a",
    b"insert into t values (@x := 1)",
    b"do @x := 1",
    b"select 1 into @x",
    b"select 1, 2 from t into @x, @y",
    b"select 1 into/* */@`x`",
    b"select 1 into @'x'",
    b"SELECT a INTO @x FROM t",
    b"(select 1) union (select 2) into @x",
    b"select 1e5into @x",
    b"select 1.5into @x",
    b"select 1.into @x",
    b"select 1.e5into @x",
    b"select .5into @x",
    b"select 1e-5into @x",
    b"select 1.5e+5into @x",
    b"select 'a'into @x",
    b"select `a`into @x",
    b"explain into @x format=json select 1",
    b"load data infile 'x' into table t (a, @b) set c = @b + 1",
    b"call p(@x)",
    b"call p(1, @`x`)",
    b"set statement a = 1 for select @x := 1",
)
_all(VARIABLE | SETTING, b"set @x = 1, y = 2", b"set y = 2, @x = 1", b"set names utf8, @x = 1", b"set x = @y := 1")
_all(VARIABLE | DIAGNOSTICS, b"get diagnostics @x = number", b"get current diagnostics condition 1 @a = message_text")

# ---------------------------------------------------------------- locks
_all(
    LOCK,
    b"select get_lock('a', 1)",
    b"SELECT GET_LOCK ('a', 1)",
    b"select `get_lock`('a', 1)",
    b"select `GET_LOCK` /* */ -- \n ('a', 1)",
    b"do get_lock('a', 1)",
    b"select {fn get_lock('a', 1)}",
    b"set global x = get_lock('a', 1)",
    b"insert into t values (get_lock('a', 1))",
    b"select service_get_write_locks('a', 'b', 1)",
    b"select 1-get_lock('a', 1)",
    b"select 1.5get_lock('a', 1)",
    b"select 'a'get_lock('a', 1)",
    b'select "get_lock"(1)',  # ANSI_QUOTES may be set, and if not, this is an error
)
_all(
    TABLES,
    b"lock table t read",
    b"LOCK TABLES a WRITE, b READ LOCAL",
    b"lock/**/tables a write",
    b"lock instance for backup",
    b"flush tables with read lock",
    b"FLUSH TABLES a, `b` WITH READ LOCK",
    b"flush no_write_to_binlog tables with read lock",
    b"flush local table t for export",
    b"flush tables with read lock and disable checkpoint",
    b"backup stage start",
    b"backup lock t",
)
_all(XA, b"xa start 'a'", b"XA BEGIN 'a','b',1", b"xa end 'a'", b"xa prepare 'a'")
_all(
    SEQUENCE, b"select nextval(s)", b"select lastval(s), 1", b"select next value for s", b"SELECT PREVIOUS VALUE FOR s"
)

# ---------------------------------------------------------------- cursors, PREPARE, temporary tables, blocks
_all(CURSOR, b"handler t open", b"handler d.t open as a", b"HANDLER `t` OPEN")
_all(
    PREPARED,
    b"prepare p from 'select 1'",
    b"prepare p from @x",
    b"execute p",
    b"execute p using @a, @b",
    b"execute immediate 'select 1'",
    b"deallocate prepare p",
    b"drop prepare p",
)
_all(
    TEMPORARY,
    b"create temporary table t (a int)",
    b"CREATE TEMPORARY TABLE IF NOT EXISTS t SELECT 1",
    b"create or replace temporary table t (a int)",
    b"create/**/temporary#\ntable t (a int)",
    b"create /*!32302 temporary */ table t (a int)",
)
_all(
    BLOCK,
    b"begin not atomic set @x = 1",
    b"if 1 then select 1",
    b"while 1 do select 1",
    b"for i in 1 .. 2 do select 1",
    b"loop select 1",
    b"case 1 when 1 then select 1",
    b"declare x int",
    b"a: loop select 1",
)
_all(BLOCK | VARIABLE | MULTIPLE, b"begin not atomic select 1; set @x = 1; end")

# ---------------------------------------------------------------- what asks about the statement before
_all(LAST_INSERT_ID, b"select last_insert_id()", b"SELECT LAST_INSERT_ID ( )", b"select `last_insert_id`(/* */)")
_all(
    LAST_INSERT_ID,
    b"select @@last_insert_id",
    b"select @@identity",
    b"select @@session . identity",
    b"select @@local.identity",
)
_all(LAST_INSERT_ID, b"insert into t values (1, last_insert_id())", b"select @@`identity`")
_all(LAST_INSERT_ID_SET, b"update t set a = last_insert_id(a + 1)", b"select last_insert_id(5)")
_all(LAST_INSERT_ID | LAST_INSERT_ID_SET, b"select last_insert_id(last_insert_id())")
_all(FOUND_ROWS, b"select found_rows()", b"SELECT FOUND_ROWS () from dual")
_all(CALC_FOUND_ROWS, b"select sql_calc_found_rows * from t limit 1", b"select distinct SQL_CALC_FOUND_ROWS a from t")
_all(ROW_COUNT, b"select row_count()", b"insert into t values (row_count())")
_all(DIAGNOSTICS, b"show warnings", b"SHOW ERRORS LIMIT 5", b"show count(*) warnings", b"show count ( * ) errors")
_all(DIAGNOSTICS, b"select @@warning_count", b"select @@error_count", b"select @@session.warning_count")
_all(
    0,
    b"select sql_calc_found_rows_ from t",
    b"select 'found_rows()'",
    b"show count",
    b"select @@global.identity",
    b"select last_insert_id(",
)

# ---------------------------------------------------------------- transactions, databases
_all(TRANSACTION_START, b"begin", b"BEGIN WORK", b"begin;", b"start transaction read only, with consistent snapshot")
_all(
    TRANSACTION_START | MULTIPLE, b"begin; select 1", b"select 1; begin", b"start transaction; insert into t values (1)"
)
_all(MULTIPLE, b"select 1; select 2", b"select 1;;/* */;(select 2)", b"set global x = 1; select 1;")

CASES += [
    MysqlCase(b"use d", USE_DATABASE, b"d"),
    MysqlCase(b"USE My_Db;", USE_DATABASE, b"My_Db"),
    MysqlCase(b"/* a */ use /* b */ `a``b` -- c", USE_DATABASE, b"a`b"),
    MysqlCase(b"use`d`", USE_DATABASE, b"d"),
    MysqlCase(b"use 1db", USE_DATABASE, b"1db"),
    MysqlCase(b"use 1e", USE_DATABASE, b"1e"),
    MysqlCase(b"use 2e2db", USE_DATABASE | UNREADABLE, b""),
    MysqlCase(b"use \xc3\xa9", USE_DATABASE, b"\xc3\xa9"),
    MysqlCase(b"use " + b"x" * 64, USE_DATABASE, b"x" * 64),
    MysqlCase(b"use " + b"x" * 65, USE_DATABASE | UNREADABLE, b""),
    MysqlCase(b"use `" + b"x" * 63 + b"\xc3\xa9`", USE_DATABASE | UNREADABLE, b""),
    MysqlCase(b"use 'd'", USE_DATABASE | UNREADABLE, b""),
    MysqlCase(b'use "d"', USE_DATABASE | UNREADABLE, b""),
    MysqlCase(b'use "d"', USE_DATABASE, b"d", dialect=Dialect.MYSQL_ANSI),
    MysqlCase(b"use a; use b", USE_DATABASE | MULTIPLE, b"b"),
    MysqlCase(b"drop database d", DROP_DATABASE, b"d"),
    MysqlCase(b"DROP SCHEMA IF EXISTS `D`", DROP_DATABASE, b"D"),
    MysqlCase(b"drop database /*!32312 if exists*/ d", DROP_DATABASE, b"d"),
    MysqlCase(b"drop database `if`", DROP_DATABASE, b"if"),
]
_all(
    0,
    b"use",
    b"drop database",
    b"drop database if exists",
    b"select use, d from t",
    b"alter database d character set x",
)

# ---------------------------------------------------------------- where strings, names and comments end
_all(
    0,
    b"select '\\'; set @x = 1'",
    b"select '\\\\\\'; set @x = 1'",
    b"select ''';set @x = 1'",
    b"select '\";set @x = 1'",
    b'select "\\"; set @x = 1"',
    b'select """;set @x = 1"',
    b'select "\';set @x = 1"',
    b"select `\\`, ';set @x = 1'",
    b"select ```;set @x = 1`",
    b"select `'`, ';set @x = 1'",
    b"select n'\\'; set @x = 1'",
    b"select _latin1 '\\'; set @x = 1'",
    b"select 'a' 'b;set @x = 1'",
    b"select '\0;set @x = 1'",
    b"select 1 /* ;set @x = 1 */",
    b"select 1 /*/;set @x = 1 */",
    b"select 1 /* /* ;set @x = 1 */",
    b"select 1 /***/+/* * / ;set @x = 1 **/",
    b"select 1 /* \0 ;set @x = 1 */",
    b"select 1 */* ;set @x = 1 */ 2",
    b"select 1 -- ;set @x = 1",
    b"select 1 --\t;set @x = 1",
    b"select 1 --\x01;set @x = 1",
    b"select 1 --\x7f;set @x = 1",
    b"select 1 --\n+ 1 --\r;set @x = 1",
    b"select 1 -- \r;set @x = 1",
    b"select 1 #;set @x = 1",
    b"select 1#\r;set @x = 1",
    b"select 1 --- ;set @x = 1\n2",
    b"select 1 ---- ;set @x = 1\n2",
    b"select 1e-- ;set @x = 1",
    b"select 1e--- ;set @x = 1\n2",
    b"select 1 -/* ;set @x = 1 */ 2",
    b"select 1 /*+ ;set @x = 1 */ from t",
    b"select /*+ qb_name(`a`) set_var(x = 'b') */ 1",
    b"select /*+*/ 1, /*M ;set @x = 1 */ 2, /*m! ;set @x = 1 */ 3",
    b"select $$;",
    b"select $$'$$; set @x = 1; '",
    b"select a$b, $c$, $1",
    b"select @x';set @x = 1'",
)
_all(
    VARIABLE | MULTIPLE,
    b"select ''; set @x = 1",
    b"select '\\\\'; set @x = 1",
    b"select ''''; set @x = 1",
    b'select "\\\\"; set @x = 1',
    b"select `\\`; set @x = 1",
    b"select ````; set @x = 1",
    b"select '\"'; set @x = 1",
    b"/* /* */ set global x = 1; set @x = 1",
    b"select 1 --;set @x = 1",
    b"select 1 --1;set @x = 1",
    b"select 1 --\xc2\xa0;set @x = 1",
    b"select 1 ---1;set @x = 1",
    b"select 1 - - ;set @x = 1",
    b"select 1 / * 3; set @x = 1",
    b"select 1 -- '\n;set @x = 1",
    b"select 1 # '\n;set @x = 1",
    b"select 1e--1; set @x = 1",
    b"select $a$; set @x = 1",
    b"select 1 */ 2; set @x = 1",
    b"select ?; set @x = 1",
    b"select @; set @x = 1",
    b"select @'';set @x = 1",
)
_all(0, b"select '\\', ';set @x = 1'", b'select "\\", ";set @x = 1"', escapes=False)
_all(VARIABLE | MULTIPLE, b"select '\\'; set @x = 1", b'select "\\"; set @x = 1', escapes=False)
_all(0, b'select "\\", ";set @x = 1"', b'select """;set @x = 1"', b"select '\\'\"'", dialect=Dialect.MYSQL_ANSI)
_all(LOCK, b'select "get_lock"(1)', b'select "GET_LOCK" (1)', b"select `get_lock`(1)", dialect=Dialect.MYSQL_ANSI)
_all(VARIABLE | MULTIPLE, b'select "\\"; set @x = 1', dialect=Dialect.MYSQL_ANSI)
_all(SETTING, b'set "x" = 1', b'set @@"global".x = 1', dialect=Dialect.MYSQL_ANSI)

# ---------------------------------------------------------------- comments that are SQL
_all(SETTING, b"/*!40101 SET NAMES utf8 */;", b"/*! set x = 1 */", b"/*!set x=1*/", b"/*!80000 SET SESSION x = 1 */;")
_all(SETTING, b"/*M! set x = 1 */", b"/*M!100203 set x = 1 */;", b"/*!999999 set x = 1 */", b"set /*! x = */ 1")
_all(
    VARIABLE,
    b"/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, GLOBAL x = 0 */",
    b"select 1 /*! into @x */",
    b"select 1 /*!80000 into @x */",
)
_all(VARIABLE, b"/*!40101 set */ @x = 1", b"/*! set @x = 1 -- */\n */", b"/*! set /* */ @x = 1 */")
_all(
    0,
    b"select /*!40001 SQL_NO_CACHE */ * from t",
    b"select /*! straight_join */ a from t",
    b"select 1 /*!50699 + 1 */ from t /*! where '*/' = 1 */",
    b"create table t (a int) /*!50100 partition by hash (a) */",
    b"create database /*!32312 IF NOT EXISTS*/ d /*!40100 DEFAULT CHARSET utf8 */ /*!80016 DEFAULT ENCRYPTION='N' */",
    b"/*!50003 create*/ /*!50017 definer=`root`@`localhost`*/ /*!50003 trigger t before insert on a for each row b */",
    b"/*!40000 alter table t disable keys */",
    b"/*!80000 select 1 */",
    b"select 1 /*!80000 + '/' */ from t",
    b"select 1 /*!80000 + ( 2 */ + 3",
    b"insert /*! ignore */ into t values (1)",
    b"select /*! 1 */ */*! 2 */",
)
_all(MULTIPLE, b"/*!80000 select 1 */; select 2", b"select 1 /*!80000 ; select 2 */", b"/*!80000 select 1; */ select 2")
_all(
    UNREADABLE,
    b"/*!80000 select */ set x = 1",
    b"/*!80000 select 1 */ + 1",
    b"/*M! select */ set x = 1",
    b"/*!80000 create */ /*!80000 table t (a int) */",
    b"select get_lock /*!80000 x */ ('a')",
    b"select 1 into /*!80000 outfile 'x' */ @x",
    b"select 1 /*!80000 '*/' */",
    b"select 1 /*!80000 '\\*/' */",
    b"select 1 /*!80000 `*/` */",
    b'select 1 /*!80000 "*/" */',
    b"select 1 /*!80000 -- */\n */",
    b"select 1 /*!80000 # */\n */",
    b"select 1 /*!80000 /* */ */",
    b"select 1 /*!80000 /*+ */ */",
    b"select 1 /*!80000 ' */ ; set @x = 1 -- '",
    b"select 1 /*! /*! */ */",
    b"select 1 /*! /*M! */ */",
    b"select 1 /*! + 1",
    b"select 1 /*!",
    b"select 1 /*!40000",
    b"select 1 /*!40000 '*/'",
    b"/*!",
    b"/*! *",
    b"/*!500001 select */ set x = 1",
    b"/*!5000 select */ set x = 1",
)
_all(SETTING | UNREADABLE, b"set x = /*!80000 1, global y = */ 2")
_all(UNREADABLE, b"set /*!80000 global */ x = 1", b"set /*!80000 @@global. */ x = 1")

# ---------------------------------------------------------------- what cannot be read to the end, or not for certain
_all(
    UNREADABLE,
    b"'",
    b"select 'a",
    b"select 'a\\'",
    b"select 'a\\",
    b'select "a',
    b'select "a\\"',
    b"select `a",
    b"select `a``",
    b"/*",
    b"select 1 /*/",
    b"select 1 /* *",
    b"select 1 /*M",
    b"select 1 /*+",
    b"select 1 /*+ *",
    b"select 1 /* /* */ */ /*",
    b"select /*+ qb_name(`*/ `) */ 1",
    b"select /*+ it's */ 1",
    b"select 1\0",
    b"\0",
    b"select `a\0b`",
    b"select 1 -- \0",
    b"select 1 --\0",
    b"select 1 # a\0\n",
    b"select 1\0; set @x = 1",
)
_all(UNREADABLE, b'select "a\0b"', dialect=Dialect.MYSQL_ANSI)
_all(0, b'select "a\0b"', b"select '\0'")
_all(UNREADABLE, b"select '\\''", escapes=False)
