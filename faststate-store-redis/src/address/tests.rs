//! Address forms and their outcomes.

use super::*;

/// A summary of an address: kind, hosts, user, password, database, certificates.
fn summary(text: &str) -> String {
    match RedisAddress::parse(text) {
        Ok(address) => {
            let kind = match &address.deployment {
                Deployment::Servers => "servers".to_owned(),
                Deployment::Cluster => "cluster".to_owned(),
                Deployment::Sentinel { service, credentials } => {
                    let login =
                        credentials.password.as_ref().map(|word| format!(" with {word}")).unwrap_or_default();
                    format!("sentinel {service}{login}")
                }
            };
            let hosts: Vec<_> = address.hosts.iter().map(ToString::to_string).collect();
            let mut summary = format!("{kind} {}", hosts.join(" "));
            let Credentials { user, password } = &address.credentials;
            for (name, value) in [("user", user), ("password", password)] {
                summary += &value.as_ref().map(|value| format!(" {name}={value}")).unwrap_or_default();
            }
            if address.database != 0 {
                summary += &format!(" db={}", address.database);
            }
            if let Some(TlsFiles { authorities, client }) = &address.tls {
                summary += " tls";
                summary +=
                    &authorities.as_ref().map(|file| format!(" ca={}", file.display())).unwrap_or_default();
                if let Some((certificate, key)) = client {
                    summary += &format!(" client={}+{}", certificate.display(), key.display());
                }
            }
            summary
        }
        Err(error) => format!("wrong {}", error.part),
    }
}

#[test]
fn address_forms_have_their_documented_outcome() {
    let table = [
        ("redis://localhost", "servers localhost:6379"),
        ("redis://localhost/", "servers localhost:6379"),
        ("redis://127.0.0.1:6380/2", "servers 127.0.0.1:6380 db=2"),
        ("redis://[::1]:6380", "servers [::1]:6380"),
        ("redis://[fe80::1]", "servers [fe80::1]:6379"),
        ("REDIS://Example.com", "servers Example.com:6379"),
        ("valkey://cache", "servers cache:6379"),
        ("redis://:secret@cache", "servers cache:6379 password=secret"),
        ("redis://default:secret@cache/0", "servers cache:6379 user=default password=secret"),
        ("redis://a%40b:p%2Fw%3A%25@cache", "servers cache:6379 user=a@b password=p/w:%"),
        ("redis://user:p@ss:w,rd@cache", "servers cache:6379 user=user password=p@ss:w,rd"),
        ("redis://:@cache", "servers cache:6379"),
        ("redis://a,b:6380,[::1]/1", "servers a:6379 b:6380 [::1]:6379 db=1"),
        ("redis://cache?db=3", "servers cache:6379 db=3"),
        ("redis://cache/?protocol=resp3", "servers cache:6379"),
        ("rediss://cache", "servers cache:6379 tls"),
        ("valkeys://cache:6380/", "servers cache:6380 tls"),
        (
            "rediss://default:pw@eu1-x.upstash.io:6379",
            "servers eu1-x.upstash.io:6379 user=default password=pw tls",
        ),
        ("rediss://cache?sslrootcert=system", "servers cache:6379 tls"),
        ("rediss://cache?sslrootcert=%2Fetc%2Fca.pem", "servers cache:6379 tls ca=/etc/ca.pem"),
        ("rediss://cache?sslcert=a.pem&sslkey=b.pem", "servers cache:6379 tls client=a.pem+b.pem"),
        ("redis+sentinel://a,b:26380/mymaster", "sentinel mymaster a:26379 b:26380"),
        ("redis+sentinel://:pw@a/mymaster/4", "sentinel mymaster a:26379 password=pw db=4"),
        ("rediss+sentinel://a/m?sentinel_password=s", "sentinel m with s a:26379 tls"),
        ("valkeys+sentinel://a/m", "sentinel m a:26379 tls"),
        ("redis+cluster://a:7000,b:7001", "cluster a:7000 b:7001"),
        (
            "rediss+cluster://u:p@clustercfg.x.amazonaws.com:6379/0",
            "cluster clustercfg.x.amazonaws.com:6379 user=u password=p tls",
        ),
        ("valkey+cluster://a/", "cluster a:6379"),
        ("unix:///run/redis.sock", "servers /run/redis.sock"),
        ("redis+unix:///run/redis.sock?db=2", "servers /run/redis.sock db=2"),
        ("unix://user:pw@/run/my%20redis.sock", "servers /run/my redis.sock user=user password=pw"),
        // Refused.
        ("", "wrong scheme"),
        ("localhost:6379", "wrong scheme"),
        ("redis:localhost", "wrong scheme"),
        ("http://cache", "wrong scheme"),
        ("redis-sentinel://a/m", "wrong scheme"),
        ("rediss+unix:///run/redis.sock", "wrong scheme"),
        ("redis://", "wrong host"),
        ("redis://:6379", "wrong host"),
        ("redis://a,,b", "wrong host number 2"),
        ("redis://::1", "wrong host"),
        ("redis://[::1", "wrong host"),
        ("redis://[cache]", "wrong host"),
        ("redis://ca che", "wrong host"),
        ("redis://0.0.0.0", "wrong host"),
        ("redis://cache:", "wrong port"),
        ("redis://cache:0", "wrong port"),
        ("redis://cache:65536", "wrong port"),
        ("redis://a,b:x", "wrong port number 2"),
        ("redis://cache/x", "wrong database"),
        ("redis://cache/-1", "wrong database"),
        ("redis://cache/1/2", "wrong database"),
        ("redis+cluster://cache/1", "wrong database"),
        ("redis://cache/1?db=1", "wrong parameter `db`"),
        ("redis://user@cache", "wrong password"),
        ("redis://user:@cache", "wrong password"),
        ("redis://:p%zz@cache", "wrong password"),
        ("redis://%ff:pw@cache", "wrong user"),
        ("redis://:p/w@cache", "wrong user or password"),
        ("redis://:p?w@cache", "wrong user or password"),
        ("redis://:p#w@cache", "wrong user or password"),
        ("rediss://cache#insecure", "wrong fragment"),
        ("redis://cache?sslrootcert=a", "wrong parameter `ssl..`"),
        ("rediss://cache?sslcert=a", "wrong parameter `sslcert`"),
        ("rediss://cache?sslrootcert=", "wrong parameter `sslrootcert`"),
        ("rediss://cache?ssl_cert_reqs=none", "wrong parameter `ssl_cert_reqs`"),
        ("redis://cache?sslmode=require", "wrong parameter `sslmode`"),
        ("redis://cache?db=1&db=2", "wrong parameter `db`"),
        ("redis://cache?protocol=2", "wrong parameter `protocol`"),
        ("redis://cache?db=1&timeout=5", "wrong parameter number 2"),
        ("redis+sentinel://a", "wrong service"),
        ("redis+sentinel://a//1", "wrong service"),
        ("redis://a?sentinel_password=x", "wrong parameter `sentinel_..`"),
        ("redis+sentinel://a/m?sentinel_username=x", "wrong parameter `sentinel_username`"),
        ("unix://run/redis.sock", "wrong socket"),
        ("unix:///", "wrong socket"),
    ];
    for (text, outcome) in table {
        assert_eq!(summary(text), outcome, "{text}");
    }
}

#[test]
fn broken_address_never_shows_its_password() {
    const SECRET: &str = "s3cr3t";

    let schemes = ["redis", "rediss", "redis+sentinel", "redis+cluster", "unix", "http", "", "s3cr3t"];
    // Each contains the secret where a slip of the hand puts it.
    let rests = [
        "s3cr3t",
        ":s3cr3t",
        "s3cr3t@",
        "s3cr3t@host",
        ":s3cr3t@",
        ":s3cr3t@:1",
        ":s3cr3t@host:x",
        ":s3cr3t@host:99999",
        ":s3/cr3t@host",
        ":/s3cr3t@host",
        ":?s3cr3t@host",
        ":#s3cr3t@host",
        ":%s3cr3t@host",
        ":s3cr3t%@host",
        ":s3cr3t%ff@host",
        "user:s3cr3t:host",
        "user:s3cr3t@ho st",
        "user:s3cr3t@[host",
        "user:s3cr3t@[::1]x",
        "host/s3cr3t",
        "host?s3cr3t",
        "host?s3cr3t=1",
        "host?password=s3cr3t",
        "host?db=s3cr3t",
        "host?a=1&s3cr3t",
        "host#s3cr3t",
        "user:s3cr3t@a,,b",
        "[s3cr3t]",
    ];
    let mut broken = 0;
    for scheme in schemes {
        for rest in rests {
            for separator in ["://", ":", "//"] {
                let text = format!("{scheme}{separator}{rest}");
                match RedisAddress::parse(&text) {
                    Ok(address) => assert!(!format!("{:?}", address.credentials).contains(SECRET), "{text}"),
                    Err(error) => {
                        broken += 1;
                        let shown = format!("{error} {error:?}");
                        assert!(!shown.contains("s3") && !shown.contains("cr3t"), "{text}: {shown}");
                    }
                }
            }
        }
    }
    assert!(broken >= 200, "{broken}");
}
