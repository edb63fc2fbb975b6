/* What libpq offers, against whatever PGHOST and so on name. Ends with 0 if everything was as it should be. */

#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

static PGconn *conn;

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, PQerrorMessage(conn));                          \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static PGresult *run(const char *sql, ExecStatusType wanted) {
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != wanted) {
        fprintf(stderr, "%s: %s instead of %s: %s\n", sql, PQresStatus(PQresultStatus(result)), PQresStatus(wanted),
                PQerrorMessage(conn));
        exit(1);
    }
    return result;
}

static void done(const char *sql) { PQclear(run(sql, PGRES_COMMAND_OK)); }

static int notices;
static void count_notice(void *unused, const PGresult *notice) {
    (void)unused;
    MUST(strcmp(PQresultErrorField(notice, PG_DIAG_SQLSTATE), "00000") == 0);
    notices++;
}

static void start(void) {
    puts("connect");
    conn = PQconnectdb("application_name=suite-libpq");
    MUST(PQstatus(conn) == CONNECTION_OK);
    MUST(PQserverVersion(conn) >= 150000);
    MUST(strcmp(PQparameterStatus(conn, "client_encoding"), "UTF8") == 0);
    MUST(strcmp(PQparameterStatus(conn, "application_name"), "suite-libpq") == 0);
    MUST(PQparameterStatus(conn, "server_version") != NULL);
    MUST(PQbackendPID(conn) != 0);
    done("set timezone = 'Asia/Tokyo'");
    MUST(strcmp(PQparameterStatus(conn, "TimeZone"), "Asia/Tokyo") == 0);
    done("drop table if exists libpq_suite");
    done("create table libpq_suite(id int primary key, name text)");
}

static void parameters(void) {
    puts("parameters, binary and text, prepared statements, descriptions");
    const char *values[2] = {"40", "2"};
    PGresult *result = PQexecParams(conn, "select $1::int + $2::int", 2, NULL, values, NULL, NULL, 1);
    MUST(PQresultStatus(result) == PGRES_TUPLES_OK && PQfformat(result, 0) == 1 && PQgetlength(result, 0, 0) == 4);
    MUST(PQgetvalue(result, 0, 0)[3] == 42);
    PQclear(result);
    result = PQprepare(conn, "by_name", "select id from libpq_suite where name = $1 and id > $2", 0, NULL);
    MUST(PQresultStatus(result) == PGRES_COMMAND_OK);
    PQclear(result);
    result = PQdescribePrepared(conn, "by_name");
    MUST(PQresultStatus(result) == PGRES_COMMAND_OK && PQnparams(result) == 2 && PQparamtype(result, 0) == 25 && PQnfields(result) == 1);
    PQclear(result);
    done("insert into libpq_suite values (1, 'one'), (2, NULL)");
    const char *wanted[2] = {"one", "0"};
    for (int turn = 0; turn < 5; turn++) {
        result = PQexecPrepared(conn, "by_name", 2, wanted, NULL, NULL, 0);
        MUST(PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "1") == 0);
        PQclear(result);
    }
    const char *null[1] = {NULL};
    result = PQexecParams(conn, "select $1::text is null", 1, NULL, null, NULL, NULL, 0);
    MUST(strcmp(PQgetvalue(result, 0, 0), "t") == 0);
    PQclear(result);
    result = PQexec(conn, "select 1; select 2; select 3");
    MUST(strcmp(PQgetvalue(result, 0, 0), "3") == 0);
    PQclear(result);
    PQclear(run("", PGRES_EMPTY_QUERY));
}

static void errors(void) {
    puts("errors and transactions");
    PGresult *result = PQexec(conn, "insert into libpq_suite values (1, 'again')");
    MUST(PQresultStatus(result) == PGRES_FATAL_ERROR);
    MUST(strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), "23505") == 0);
    MUST(strcmp(PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME), "libpq_suite_pkey") == 0);
    PQclear(result);
    done("begin");
    MUST(PQtransactionStatus(conn) == PQTRANS_INTRANS);
    PQclear(PQexec(conn, "select 1/0"));
    MUST(PQtransactionStatus(conn) == PQTRANS_INERROR);
    PQclear(run("select 1", PGRES_FATAL_ERROR));
    done("rollback");
    MUST(PQtransactionStatus(conn) == PQTRANS_IDLE);
    PQsetNoticeReceiver(conn, count_notice, NULL);
    done("do $$ begin raise notice 'one'; raise notice 'two'; end $$");
    MUST(notices == 2);
}

static void copies(void) {
    puts("COPY both ways");
    PQclear(run("copy libpq_suite from stdin", PGRES_COPY_IN));
    char line[64];
    for (int id = 1000; id < 21000; id++) {
        int length = snprintf(line, sizeof line, "%d\tname %d\n", id, id);
        MUST(PQputCopyData(conn, line, length) == 1);
    }
    MUST(PQputCopyEnd(conn, NULL) == 1);
    PGresult *result = PQgetResult(conn);
    MUST(PQresultStatus(result) == PGRES_COMMAND_OK && strcmp(PQcmdTuples(result), "20000") == 0);
    PQclear(result);
    MUST(PQgetResult(conn) == NULL);
    PQclear(run("copy libpq_suite from stdin", PGRES_COPY_IN));
    MUST(PQputCopyData(conn, "30000\tnever\n", 12) == 1);
    MUST(PQputCopyEnd(conn, "thought better of it") == 1);
    result = PQgetResult(conn);
    MUST(PQresultStatus(result) == PGRES_FATAL_ERROR && strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014") == 0);
    PQclear(result);
    MUST(PQgetResult(conn) == NULL);
    PQclear(run("copy (select * from libpq_suite where id >= 1000 order by id) to stdout", PGRES_COPY_OUT));
    char *buffer;
    int rows = 0;
    while (PQgetCopyData(conn, &buffer, 0) > 0) {
        rows++;
        PQfreemem(buffer);
    }
    MUST(rows == 20000);
    result = PQgetResult(conn);
    MUST(PQresultStatus(result) == PGRES_COMMAND_OK);
    PQclear(result);
    MUST(PQgetResult(conn) == NULL);
}

static void rows_one_by_one(void) {
    puts("single rows, cursors");
    MUST(PQsendQuery(conn, "select generate_series(1, 5000)") == 1 && PQsetSingleRowMode(conn) == 1);
    PGresult *result;
    int rows = 0;
    while ((result = PQgetResult(conn)) != NULL) {
        rows += PQresultStatus(result) == PGRES_SINGLE_TUPLE;
        PQclear(result);
    }
    MUST(rows == 5000);
    done("begin");
    done("declare c cursor for select generate_series(1, 100)");
    result = PQdescribePortal(conn, "c");
    MUST(PQresultStatus(result) == PGRES_COMMAND_OK && PQnfields(result) == 1);
    PQclear(result);
    result = run("fetch 60 from c", PGRES_TUPLES_OK);
    MUST(PQntuples(result) == 60);
    PQclear(result);
    result = run("fetch 60 from c", PGRES_TUPLES_OK);
    MUST(PQntuples(result) == 40);
    PQclear(result);
    done("commit");
}

static ExecStatusType next_status(void) {
    PGresult *result = PQgetResult(conn);
    ExecStatusType status = PQresultStatus(result);
    MUST(result != NULL);
    PQclear(result);
    if (status != PGRES_PIPELINE_SYNC) {
        MUST(PQgetResult(conn) == NULL);
    }
    return status;
}

static void pipelines(void) {
    puts("pipelines, with errors");
    MUST(PQenterPipelineMode(conn) == 1);
    const char *value[1];
    char text[16];
    for (int id = 0; id < 100; id++) {
        snprintf(text, sizeof text, "%d", 50000 + id);
        value[0] = text;
        MUST(PQsendQueryParams(conn, "insert into libpq_suite values ($1, 'pipeline')", 1, NULL, value, NULL, NULL, 0) == 1);
    }
    MUST(PQpipelineSync(conn) == 1);
    for (int id = 0; id < 100; id++) {
        MUST(next_status() == PGRES_COMMAND_OK);
    }
    MUST(next_status() == PGRES_PIPELINE_SYNC);
    /* An error takes what is behind it down to the next sync, and nothing further. */
    MUST(PQsendQueryParams(conn, "insert into libpq_suite values (60000, 'gone')", 0, NULL, NULL, NULL, NULL, 0) == 1);
    MUST(PQsendQueryParams(conn, "select 1/0", 0, NULL, NULL, NULL, NULL, 0) == 1);
    MUST(PQsendQueryParams(conn, "insert into libpq_suite values (60001, 'gone')", 0, NULL, NULL, NULL, NULL, 0) == 1);
    MUST(PQpipelineSync(conn) == 1);
    MUST(PQsendPrepare(conn, "in_pipeline", "select $1::int * 2", 0, NULL) == 1);
    value[0] = "21";
    MUST(PQsendQueryPrepared(conn, "in_pipeline", 1, value, NULL, NULL, 0) == 1);
    MUST(PQpipelineSync(conn) == 1);
    MUST(next_status() == PGRES_COMMAND_OK);
    MUST(next_status() == PGRES_FATAL_ERROR);
    MUST(next_status() == PGRES_PIPELINE_ABORTED);
    MUST(next_status() == PGRES_PIPELINE_SYNC);
    MUST(next_status() == PGRES_COMMAND_OK);
    PGresult *result = PQgetResult(conn);
    MUST(PQresultStatus(result) == PGRES_TUPLES_OK && strcmp(PQgetvalue(result, 0, 0), "42") == 0);
    PQclear(result);
    MUST(PQgetResult(conn) == NULL);
    MUST(next_status() == PGRES_PIPELINE_SYNC);
    /* Answers before a sync, by a flush. */
    MUST(PQsendQueryParams(conn, "select 7", 0, NULL, NULL, NULL, NULL, 0) == 1);
    MUST(PQsendFlushRequest(conn) == 1 && PQflush(conn) == 0);
    MUST(next_status() == PGRES_TUPLES_OK);
    MUST(PQpipelineSync(conn) == 1);
    MUST(next_status() == PGRES_PIPELINE_SYNC);
    MUST(PQexitPipelineMode(conn) == 1);
    result = run("select count(*) from libpq_suite where id >= 50000", PGRES_TUPLES_OK);
    MUST(strcmp(PQgetvalue(result, 0, 0), "100") == 0);
    PQclear(result);
}

static void large_objects(void) {
    puts("large objects");
    done("begin");
    Oid blob = lo_creat(conn, INV_READ | INV_WRITE);
    MUST(blob != 0);
    int file = lo_open(conn, blob, INV_WRITE | INV_READ);
    char page[8192], back[8192];
    for (int at = 0; at < 200; at++) {
        memset(page, at, sizeof page);
        MUST(lo_write(conn, file, page, sizeof page) == sizeof page);
    }
    MUST(lo_lseek64(conn, file, 8192L * 77, SEEK_SET) == 8192L * 77);
    MUST(lo_read(conn, file, back, sizeof back) == sizeof back && back[0] == 77 && back[8191] == 77);
    MUST(lo_truncate(conn, file, 100) == 0);
    MUST(lo_close(conn, file) == 0 && lo_unlink(conn, blob) == 1);
    done("commit");
}

static void *cancel_soon(void *handle) {
    char message[256];
    usleep(200000);
    if (!PQcancel(handle, message, sizeof message)) {
        fprintf(stderr, "cancel: %s\n", message);
        exit(1);
    }
    return NULL;
}

static void cancels(void) {
    puts("cancel");
    PGcancel *handle = PQgetCancel(conn);
    MUST(handle != NULL);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, cancel_soon, handle) == 0);
    PGresult *result = PQexec(conn, "select pg_sleep(30)");
    MUST(PQresultStatus(result) == PGRES_FATAL_ERROR && strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014") == 0);
    PQclear(result);
    pthread_join(thread, NULL);
    PQfreeCancel(handle);
    PQclear(run("select 1", PGRES_TUPLES_OK));
}

static void notifications(void) {
    puts("LISTEN");
    PGconn *other = PQconnectdb("");
    MUST(PQstatus(other) == CONNECTION_OK);
    done("listen libpq_suite");
    PQclear(PQexec(other, "notify libpq_suite, 'from the other'"));
    PQfinish(other);
    PGnotify *note = NULL;
    for (int turn = 0; turn < 50 && note == NULL; turn++) {
        int sock = PQsocket(conn);
        fd_set set;
        FD_ZERO(&set);
        FD_SET(sock, &set);
        struct timeval wait = {0, 200000};
        select(sock + 1, &set, NULL, NULL, &wait);
        MUST(PQconsumeInput(conn) == 1);
        note = PQnotifies(conn);
    }
    MUST(note != NULL && strcmp(note->extra, "from the other") == 0);
    PQfreemem(note);
    done("unlisten *");
}

static void sizes(void) {
    puts("big values");
    size_t length = 16 << 20;
    char *big = malloc(length + 1);
    memset(big, 'x', length);
    big[length] = 0;
    const char *values[1] = {big};
    PGresult *result = PQexecParams(conn, "select $1::text", 1, NULL, values, NULL, NULL, 0);
    MUST(PQresultStatus(result) == PGRES_TUPLES_OK && (size_t)PQgetlength(result, 0, 0) == length);
    PQclear(result);
    free(big);
}

int main(void) {
    start();
    parameters();
    errors();
    copies();
    rows_one_by_one();
    pipelines();
    large_objects();
    cancels();
    notifications();
    sizes();
    puts("reset");
    PQreset(conn);
    MUST(PQstatus(conn) == CONNECTION_OK);
    done("drop table libpq_suite");
    MUST(PQsslInUse(conn) == (getenv("PGSSLMODE") != NULL && strcmp(getenv("PGSSLMODE"), "disable") != 0));
    PQfinish(conn);
    MUST(PQping("") == PQPING_OK);
    puts("done");
    return 0;
}
