//! What may come in, and how long it may be.

use super::client::MIB;
use super::fixture::{Fixture, run};

#[test]
fn a_review_of_seven_mebibytes_is_read_and_one_byte_more_is_not() {
    run(Fixture::new(), async |server| {
        let mut client = server.connect().await;
        let reply = client.post(&vec![b'x'; 7 * MIB]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "7340032 bytes"));

        let reply = server.connect().await.post(&vec![b'x'; 7 * MIB + 1]).await;
        assert_eq!((reply.status, reply.body.as_str()), (413, "the body is longer than 7 MiB"));
    });
}

#[test]
fn a_body_without_a_length_meets_the_same_limit() {
    run(Fixture::new(), async |server| {
        for (length, status) in [(7 * MIB, 200), (7 * MIB + 1, 413)] {
            let mut client = server.connect().await;
            client.send(b"POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n").await;
            client.send(format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n").as_bytes()).await;
            client.send(&vec![b'x'; length]).await;
            client.send(b"\r\n0\r\n\r\n").await;
            assert_eq!(client.reply().await.status, status);
        }
    });
}

#[test]
fn what_is_no_review_gets_one_clear_sentence() {
    run(Fixture::new(), async |server| {
        let json = "Content-Type: application/json\r\n";
        for (line, headers, status, sentence) in [
            ("POST /other", json, 404, "there is nothing here: AdmissionReviews go to /mutate"),
            ("GET /mutate", "", 405, "this path takes AdmissionReviews by POST only"),
            ("POST /mutate", "", 415, "the Content-Type must be application/json"),
            ("POST /mutate", "Content-Type: text/json\r\n", 415, "the Content-Type must be application/json"),
            ("POST /mutate?timeout=soon", json, 400, "the timeout in the query is not a duration such as 2s or 500ms"),
            ("POST /mutate?timeout=10s", "content-type: Application/JSON; charset=utf-8\r\n", 200, "2 bytes"),
        ] {
            let mut client = server.connect().await;
            client
                .send(format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: 2\r\n\r\n{{}}").as_bytes())
                .await;
            let reply = client.reply().await;
            assert_eq!((reply.status, reply.body.as_str()), (status, sentence), "{line} {headers}");
        }
    });
}
