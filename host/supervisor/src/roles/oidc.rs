//! Whose ID tokens count: upstream's options.

use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct OidcArguments {
    /// Issuers and rules: an AuthenticationConfiguration of apiserver.config.k8s.io.
    #[arg(long, conflicts_with = "oidc_issuer_url", value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// https://HOST[:PORT][/PATH] of an OpenID Connect issuer.
    #[arg(long, requires = "oidc_client_id", value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// Audience that tokens have to name.
    #[arg(long, requires = "oidc_issuer_url", value_name = "ID")]
    oidc_client_id: Option<String>,
    /// Vouches for the issuer, in PEM [default: this machine's authorities].
    #[arg(long, requires = "oidc_issuer_url", value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Claim that names the user [default: sub].
    #[arg(long, requires = "oidc_issuer_url", value_name = "CLAIM")]
    oidc_username_claim: Option<String>,
    /// Before the user's name; - for nothing [default: ISSUER#, but for email].
    #[arg(
        long,
        requires = "oidc_issuer_url",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    oidc_username_prefix: Option<String>,
    /// Claim that lists groups.
    #[arg(long, requires = "oidc_issuer_url", value_name = "CLAIM")]
    oidc_groups_claim: Option<String>,
    /// Before the names of groups.
    #[arg(long, requires = "oidc_issuer_url", value_name = "TEXT")]
    oidc_groups_prefix: Option<String>,
    /// CLAIM=TEXT that tokens have to have; may be repeated.
    #[arg(long, requires = "oidc_issuer_url", value_delimiter = ',', value_parser = pair)]
    oidc_required_claim: Vec<(String, String)>,
    /// JOSE algorithms of signatures [default: RS256].
    #[arg(
        long,
        requires = "oidc_issuer_url",
        value_delimiter = ',',
        value_name = "ALGS"
    )]
    oidc_signing_algs: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text.split_once('=').ok_or("not CLAIM=TEXT")?;
    Ok((claim.to_owned(), value.to_owned()))
}

impl OidcArguments {
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.authentication_config.clone()
    }

    pub(super) fn given(self) -> Option<apiserver::OidcConfig> {
        Some(apiserver::OidcConfig {
            issuer_url: self.oidc_issuer_url?,
            client_id: self.oidc_client_id?,
            ca_file: self.oidc_ca_file,
            username_claim: self.oidc_username_claim,
            username_prefix: self.oidc_username_prefix,
            groups_claim: self.oidc_groups_claim,
            groups_prefix: self.oidc_groups_prefix.unwrap_or_default(),
            required_claims: self.oidc_required_claim.into_iter().collect(),
            signing_algs: self.oidc_signing_algs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::OidcArguments;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        oidc: OidcArguments,
    }

    fn read(words: &str) -> Option<apiserver::OidcConfig> {
        let all = ["control"].into_iter().chain(words.split_whitespace());
        Words::try_parse_from(all).ok()?.oidc.given()
    }

    #[test]
    fn flags_are_upstreams() {
        let given = read(
            "--oidc-issuer-url https://i --oidc-client-id c --oidc-username-prefix - \
             --oidc-required-claim a=b --oidc-required-claim c=d=e --oidc-signing-algs ES256,RS256",
        )
        .expect("flags");
        assert_eq!(given.issuer_url, "https://i");
        assert_eq!(given.username_prefix.as_deref(), Some("-"));
        assert_eq!(given.required_claims["c"], "d=e");
        assert_eq!(given.signing_algs, ["ES256", "RS256"]);
        for words in [
            "",
            "--oidc-issuer-url https://i",
            "--oidc-client-id c",
            "--oidc-issuer-url https://i --oidc-client-id c --oidc-required-claim a",
        ] {
            assert!(read(words).is_none(), "{words}");
        }
    }
}
