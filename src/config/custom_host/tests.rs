use super::*;

/// What is read, and what it becomes.
const ACCEPTED: &[(&str, &str)] = &[
    ("https://api.example.com/v1", "https://api.example.com/v1"),
    ("https://api.example.com/v1/", "https://api.example.com/v1"),
    ("http://api.example.com", "http://api.example.com"),
    ("HTTPS://API.Example.COM/V1", "https://api.example.com/V1"),
    ("https://api.example.com:8443/v1", "https://api.example.com:8443/v1"),
    ("https://api.example.com:1", "https://api.example.com:1"),
    ("https://api.example.com:65535", "https://api.example.com:65535"),
    ("https://a.b.c.d.e.f.g.h.example.com", "https://a.b.c.d.e.f.g.h.example.com"),
    ("https://my-account.example.com/a/b/c%20d", "https://my-account.example.com/a/b/c%20d"),
    ("http://8.8.8.8/v1", "http://8.8.8.8/v1"),
    ("http://172.15.255.255", "http://172.15.255.255"),
    ("http://172.32.0.1", "http://172.32.0.1"),
    ("http://100.63.0.1", "http://100.63.0.1"),
    ("http://100.128.0.1", "http://100.128.0.1"),
    ("http://223.255.255.255", "http://223.255.255.255"),
    ("http://[2606:4700::1111]:8080/v1", "http://[2606:4700::1111]:8080/v1"),
    ("http://[2606:4700:0:0:0:0:0:1111]", "http://[2606:4700::1111]"),
    ("https://internal.example.com", "https://internal.example.com"),
    ("https://local-models.example.com", "https://local-models.example.com"),
    ("https://notnip.io", "https://notnip.io"),
];

/// Each with a word of the reason, so that no trick is refused by accident of another rule.
const REFUSED: &[(&str, &str)] = &[
    // not a URL, or one that could be read in two ways
    ("", "begin with"),
    ("api.example.com", "begin with"),
    ("//api.example.com", "begin with"),
    ("http:/api.example.com", "begin with"),
    ("http:api.example.com", "begin with"),
    ("file://x", "only https"),
    ("file:///etc/passwd", "only https"),
    ("ftp://example.com", "only https"),
    ("gopher://example.com", "only https"),
    ("javascript://example.com", "only https"),
    ("ws://example.com", "only https"),
    ("mock://spangate/v1", "only https"),
    ("://example.com", "only https"),
    ("http://", "empty or overlong"),
    ("http:///example.com", "empty or overlong"),
    ("http:///", "empty or overlong"),
    ("http://:80", "empty or overlong"),
    ("http://exa mple.com", "may not hold"),
    (" http://example.com", "may not hold"),
    ("http://example.com\t", "may not hold"),
    ("http://exa\tmple.com", "may not hold"),
    ("http://example.com\r\nx-evil: 1", "may not hold"),
    ("http://example.com\0", "may not hold"),
    ("http://example.com\u{7f}", "may not hold"),
    ("http:\\\\example.com", "may not hold"),
    ("http://example.com\\@evil.com", "may not hold"),
    ("http://user:pass@example.com", "may not hold"),
    ("http://user@example.com", "may not hold"),
    ("http://example.com/@x", "may not hold"),
    ("http://example.com#@evil.com", "may not hold"),
    ("http://example.com?x=1", "may not hold"),
    ("http://example.com/v1?x=1", "may not hold"),
    ("http://bücher.example", "may not hold"),
    ("http://①②⑦.⓪.⓪.①", "may not hold"),
    ("http://127。0。0。1", "may not hold"),
    ("http://example.com/\u{202e}x", "may not hold"),
    ("http://exam%70le.com", "letters, digits"),
    ("http://%31%32%37.0.0.1", "letters, digits"),
    ("http://under_score.example.com", "letters, digits"),
    ("http://*.example.com", "letters, digits"),
    ("http://example.com,evil.com", "letters, digits"),
    ("http://example.com.", "empty or overlong"),
    ("http://127.0.0.1.", "empty or overlong"),
    ("http://a..b.example", "empty or overlong"),
    ("http://.example.com", "empty or overlong"),
    ("http://a.b.c.d.e.f.g.h.i.example.com", "more than 10"),
    // ports
    ("http://example.com:", "port"),
    ("http://example.com:0", "port"),
    ("http://example.com:65536", "port"),
    ("http://example.com:-1", "port"),
    ("http://example.com:+80", "port"),
    ("http://example.com:80:80", "port"),
    ("http://example.com:http", "port"),
    ("http://example.com:22", "kind of service"),
    ("http://example.com:6379", "kind of service"),
    // IPv4, as such and in disguise
    ("http://10.0.0.1", "private"),
    ("http://127.0.0.1", "private"),
    ("http://127.255.255.254:8080", "private"),
    ("http://169.254.169.254", "private"),
    ("http://169.254.169.254/latest/meta-data", "private"),
    ("http://172.16.0.1", "private"),
    ("http://172.31.255.255", "private"),
    ("http://192.168.1.1", "private"),
    ("http://100.64.0.1", "private"),
    ("http://100.127.255.255", "private"),
    ("http://0.0.0.0", "private"),
    ("http://0.1.2.3", "private"),
    ("http://224.0.0.1", "private"),
    ("http://239.1.1.1", "private"),
    ("http://240.0.0.1", "private"),
    ("http://255.255.255.255", "private"),
    ("http://2130706433", "four decimal"),
    ("http://0x7f000001", "four decimal"),
    ("http://0X7F000001", "four decimal"),
    ("http://017700000001", "four decimal"),
    ("http://0177.0.0.1", "four decimal"),
    ("http://0x7f.0.0.1", "four decimal"),
    ("http://0x7f.1", "four decimal"),
    ("http://127.1", "four decimal"),
    ("http://127.0.1", "four decimal"),
    ("http://127.0.0.0x1", "four decimal"),
    ("http://127.0.0.01", "four decimal"),
    ("http://0x", "four decimal"),
    ("http://0", "four decimal"),
    ("http://256.1.1.1", "four decimal"),
    ("http://1.2.3.4.5", "four decimal"),
    ("http://example.1", "four decimal"),
    // IPv6
    ("http://[::1]", "private"),
    ("http://[0:0:0:0:0:0:0:1]:8080", "private"),
    ("http://[::]", "private"),
    ("http://[::127.0.0.1]", "private"),
    ("http://[::7f00:1]", "private"),
    ("http://[::ffff:127.0.0.1]", "private"),
    ("http://[::ffff:8.8.8.8]", "private"),
    ("http://[64:ff9b::7f00:1]", "private"),
    ("http://[2002:7f00:1::]", "private"),
    ("http://[fd00:ec2::254]", "private"),
    ("http://[fe80::1]", "private"),
    ("http://[fec0::1]", "private"),
    ("http://[fe80::1%25eth0]", "IPv6"),
    ("http://[::1", "IPv6"),
    ("http://[2606:4700::1]x", "port"),
    // names
    ("http://localhost:11434", "private"),
    ("http://a.localhost", "private"),
    ("http://metadata", "metadata"),
    ("http://metadata.google.internal/computeMetadata/v1", "metadata"),
    ("http://METADATA.azure.com", "metadata"),
    ("http://xn--80ak6aa92e.com", "punycode"),
    ("https://api.portkey.ai/v1", "another gateway"),
];

fn parse(text: &str, trusted: &[&str], own_host: &str) -> Result<String, String> {
    let trusted: Vec<String> = trusted.iter().map(|host| host.to_string()).collect();
    BaseUrl::parse(text, &Policy { mock_enabled: false, trusted_hosts: &trusted, own_host }).map(|url| url.as_str().to_owned())
}

#[test]
fn public_hosts_are_accepted_and_tidied() {
    for (text, tidy) in ACCEPTED.iter().copied() {
        assert_eq!(parse(text, &[], "").as_deref(), Ok(tidy), "{text}");
    }
}

#[test]
fn every_trick_is_refused_for_its_own_reason() {
    for (text, word) in REFUSED.iter().copied() {
        match parse(text, &[], "") {
            Err(why) => assert!(why.contains(word), "{text:?}: {why}"),
            Ok(url) => panic!("{text:?} passed as {url}"),
        }
    }
}

#[test]
fn private_names_are_refused_with_and_without_a_domain_before_them() {
    for tld in PRIVATE_TLDS {
        for text in [format!("http://{tld}"), format!("https://models.{tld}/v1"), format!("http://a.b.{}", tld.to_uppercase())] {
            assert!(parse(&text, &[], "").is_err(), "{text}");
        }
    }
    for text in ["http://ollama:11434", "http://instance-data", "http://10.0.0.1.nip.io", "http://lvh.me", "http://a.sslip.io"] {
        assert!(parse(text, &[], "").is_err(), "{text}");
    }
}

#[test]
fn trust_is_for_the_exact_host_and_its_port_if_named() {
    for (text, trusted, passes) in [
        ("http://localhost:11434/v1", "localhost", true),
        ("http://localhost:11434/v1", "localhost:11434", true),
        ("http://localhost:11434/v1", " LocalHost ", true),
        ("http://localhost:11435/v1", "localhost:11434", false),
        ("http://localhost", "localhost:80", true),
        ("https://localhost", "localhost:80", false),
        ("http://a.localhost", "localhost", false),
        ("http://127.0.0.1:9000", "127.0.0.1", true),
        ("http://127.0.0.2:9000", "127.0.0.1", false),
        ("http://127.1:9000", "127.0.0.1", false),
        ("http://[::1]:9000", "::1", true),
        ("http://[0:0::1]:9000", "[::1]:9000", true),
        ("http://[::1]:9001", "[::1]:9000", false),
        ("http://host.docker.internal:8080", "host.docker.internal", true),
        ("http://db.example.com:5432", "db.example.com:5432", true),
        ("http://user@localhost", "localhost", false),
        ("http://localhost", "", false),
        ("http://localhost", "*", false),
    ] {
        assert_eq!(parse(text, &[trusted], "").is_ok(), passes, "{text} trusting {trusted}");
    }
}

#[test]
fn our_own_host_is_a_loop_even_when_trusted() {
    for (text, own, passes) in [
        ("https://gateway.example.com/v1", "gateway.example.com", false),
        ("https://GATEWAY.example.com:8443/v1", "gateway.example.com", false),
        ("https://other.example.com/v1", "gateway.example.com", true),
        ("http://localhost:8787/v1", "localhost:8787", false),
        ("http://localhost:9000/v1", "localhost:8787", true),
        ("https://gateway.example.com/v1", "", true),
    ] {
        let trusted = ["gateway.example.com", "localhost"];
        assert_eq!(parse(text, &trusted, own).is_ok(), passes, "{text} on {own}");
    }
}

#[test]
fn no_text_panics_and_what_passes_reads_back_the_same() {
    let mut rng = crate::random::SeededRng(7);
    let parts = ["http", "://", "[", "]", ":", "::1", "127", ".", "0x", "/", "com", "é", "%", "@", "999999", "\0", "a"];
    for _ in 0..20_000 {
        let text: String =
            (0..8).map(|_| parts[(crate::random::Rng::next_u64(&mut rng) % parts.len() as u64) as usize]).collect();
        if let Ok(url) = parse(&text, &[], "") {
            assert_eq!(parse(&url, &[], "").as_deref(), Ok(url.as_str()), "{text}");
        }
    }
    assert!(parse(&format!("https://example.com/{}", "a".repeat(3_000)), &[], "").is_err());
    assert!(parse(&format!("https://{}.example.com", "a".repeat(64)), &[], "").is_err());
}

#[test]
fn endpoints_are_appended() {
    let url = BaseUrl::parse("https://api.example.com/v1/", &Policy::default()).unwrap();
    assert_eq!(url.join("/chat/completions"), "https://api.example.com/v1/chat/completions");
}
