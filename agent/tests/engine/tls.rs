//! Clients must use TLS, and can check the server's certificate.

use windlass_core::engine::Engine;

use crate::{
    client::query,
    fixture::{Host, PASSWORD, apply},
};

#[tokio::test]
async fn postgres_refuses_clients_without_tls_and_superusers_by_tcp() {
    let host = Host::new();
    let members = host.open().await;
    let goal = host.goal(&members, Engine::Postgres);
    apply(&members, &goal).await;
    let plain = format!("host=127.0.0.1 port={} user=app password='{PASSWORD}' dbname=app sslmode=disable", goal.port);
    let error = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await.map(drop).expect_err("no TLS");
    let message = error.as_db_error().expect("the server refuses").message().to_owned();
    assert!(message.contains("no encryption"), "{message}");
    assert_eq!(query(&host, &goal, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t");
    let error = crate::client::query_as(&host, &goal, ("windlass", "x"), "app", "select 1").expect_err("superuser");
    assert!(error.contains("rejects connection"), "{error}");
}

#[tokio::test]
async fn mariadb_refuses_clients_without_tls_and_root_by_tcp() {
    let host = Host::new();
    let members = host.open().await;
    let goal = host.goal(&members, Engine::Mariadb);
    apply(&members, &goal).await;
    let port = u16::try_from(goal.port).expect("port");
    let plain = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some("app"))
        .pass(Some(PASSWORD))
        .prefer_socket(false);
    let error = mysql_async::Conn::new(plain).await.map(drop).expect_err("no TLS").to_string();
    // MariaDB does not say why; with TLS the same password is good.
    assert!(error.contains("Access denied"), "{error}");
    assert_ne!(
        query(
            &host,
            &goal,
            "select variable_value from information_schema.session_status where variable_name = 'SSL_CIPHER'"
        ),
        ""
    );
    crate::client::query_as(&host, &goal, ("root", ""), "app", "select 1").expect_err("root by TCP");
}
