//! The calls.

use crate::error::Error;
use crate::exchange::{Answer, Exchange, refusal};
use crate::list::{List, Listing};
use crate::nodes::Nodes;
use crate::request::{Ask, Read, SIBLINGS_JSON, Write, bucket_path, key_path};
use crate::value::{self, Got, Sibling, Siblings, Via, Written, context_of};
use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

/// How to connect.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The bearer token, if the cluster wants one.
    pub token: Option<String>,
    /// Whether calls take turns among the named nodes. Otherwise they go to the first that answers.
    pub spread: bool,
}

/// A cluster, through its nodes' HTTP doors. Cheap to clone; clones share connections and what is known of
/// the nodes.
#[derive(Clone)]
pub struct Client {
    exchange: Arc<Exchange>,
}

impl Client {
    /// Asks the first of `nodes` (such as `http://127.0.0.1:7400`) that answers for the other members, so that
    /// calls survive the loss of any node. Fails if none of them answers or the token is not theirs.
    pub async fn connect<S: AsRef<str>>(nodes: &[S], options: Options) -> Result<Client, Error> {
        let client = Client::without_asking(nodes, options)?;
        let status = client.status().await?;
        for member in status["members"].as_array().into_iter().flatten() {
            if let Some(base) = member["http"].as_str().and_then(|http| base_of(http).ok()) {
                client.exchange.nodes().add(base);
            }
        }
        Ok(client)
    }

    /// Knows only `nodes`, and asks nobody before the first call.
    pub fn without_asking<S: AsRef<str>>(nodes: &[S], options: Options) -> Result<Client, Error> {
        let named = nodes.iter().map(|node| base_of(node.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if named.is_empty() {
            return Err(Error::argument("no node was named: give at least one address"));
        }
        let exchange = Exchange::new(Nodes::new(named, options.spread), options.token.as_deref())?;
        Ok(Client { exchange: Arc::new(exchange) })
    }

    /// The addresses of all known nodes, those that the caller named first.
    pub fn nodes(&self) -> Vec<String> {
        self.exchange.nodes().all()
    }

    /// Reads a key.
    pub async fn get(&self, bucket: &str, key: &[u8]) -> Result<Got, Error> {
        Ok(self.get_with(bucket, key, &Read::default()).await?.0)
    }

    /// Reads a key and says how.
    pub async fn get_with(&self, bucket: &str, key: &[u8], read: &Read) -> Result<(Got, Via), Error> {
        let answer = self.exchange.call(&Ask::read(key_path(KV, bucket, key)?, read)?).await?;
        let via = Via::of(&answer);
        let got = match answer.status {
            StatusCode::OK => value::one(answer)?,
            StatusCode::CONFLICT => Got::Siblings(value::siblings(&answer.node, &answer.body)?),
            StatusCode::NOT_FOUND => context_of(&answer).map_or(Got::Missing, Got::Deleted),
            _ => return Err(refusal(&answer)),
        };
        Ok((got, via))
    }

    /// Every version of a key, with its name, time and author, even if there is only one; `None` if there is
    /// no value.
    pub async fn siblings(&self, bucket: &str, key: &[u8], read: &Read) -> Result<Option<Siblings>, Error> {
        let ask = Ask::read(key_path(KV, bucket, key)?, read)?.accept(SIBLINGS_JSON);
        let answer = self.exchange.call(&ask).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CONFLICT => value::siblings(&answer.node, &answer.body).map(Some),
            StatusCode::NOT_FOUND => Ok(value::siblings(&answer.node, &answer.body).ok()),
            _ => Err(refusal(&answer)),
        }
    }

    /// Writes a key without having read it; see [`Write::context`].
    pub async fn put(&self, bucket: &str, key: &[u8], value: impl Into<Bytes>) -> Result<Written, Error> {
        self.put_with(bucket, key, value, &Write::default()).await
    }

    /// Writes a key.
    pub async fn put_with(
        &self,
        bucket: &str,
        key: &[u8],
        value: impl Into<Bytes>,
        write: &Write,
    ) -> Result<Written, Error> {
        let ask = Ask::write(Method::PUT, key_path(KV, bucket, key)?, write, value.into())?;
        written(self.exchange.call(&ask).await?)
    }

    /// Deletes a key; `None` if there was nothing to delete. With a context, exactly what was read is deleted,
    /// without one what a read sees.
    pub async fn delete(&self, bucket: &str, key: &[u8], write: &Write) -> Result<Option<Written>, Error> {
        let ask = Ask::write(Method::DELETE, key_path(KV, bucket, key)?, write, Bytes::new())?;
        let answer = self.exchange.call(&ask).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(None) } else { written(answer).map(Some) }
    }

    /// Reads a key, lets `f` make one value of all its versions (none, one or several), and writes it with
    /// their context. Another writer at the same moment leaves a sibling, which the next `update` resolves.
    pub async fn update(
        &self,
        bucket: &str,
        key: &[u8],
        f: impl FnOnce(&[Sibling]) -> Bytes,
    ) -> Result<Written, Error> {
        let got = self.get(bucket, key).await?;
        let context = got.context().cloned();
        let (versions, content_type) = match got {
            Got::Siblings(several) => {
                let content_type = several.siblings.first().map(|sibling| sibling.content_type.clone());
                (
                    several.siblings.into_iter().filter(|sibling| sibling.bytes.is_some()).collect(),
                    content_type,
                )
            }
            Got::One(value) => (vec![lone(&value)], Some(value.content_type)),
            Got::Deleted(_) | Got::Missing => (Vec::new(), None),
        };
        let write = Write { context, content_type, ..Write::default() };
        self.put_with(bucket, key, f(&versions), &write).await
    }

    /// The keys of a bucket, each once, in the order of the ring; streamed from one node, and from another
    /// should that one go away.
    pub fn list(&self, bucket: &str, listing: Listing) -> Result<List, Error> {
        List::new(self.exchange.clone(), bucket, listing)
    }

    /// A bucket's settings, as docs/http.md describes them.
    pub async fn bucket(&self, bucket: &str) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, bucket_path("/v1/buckets", bucket)?)).await
    }

    /// Changes those settings of a bucket that `settings` names; gives back all of them.
    pub async fn set_bucket(&self, bucket: &str, settings: &Json) -> Result<Json, Error> {
        self.json(&Ask::object(Method::PUT, bucket_path("/v1/buckets", bucket)?, settings)?).await
    }

    /// The buckets that have settings of their own, as docs/http.md describes them.
    pub async fn buckets(&self) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, "/v1/buckets".to_string())).await
    }

    /// A page of one partition's whole records, for a backup: those behind the place where an earlier page says
    /// that the next one starts.
    pub async fn records(&self, partition: u16, after: Option<&str>) -> Result<Records, Error> {
        let mut path = format!("{RECORDS}?partition={partition}");
        if let Some(after) = after {
            path.push_str(&format!("&after={after}"));
        }
        let mut ask = Ask::new(Method::GET, path);
        ask.granted = Some(COPY_TIME);
        let answer = self.exchange.call(&ask).await?;
        if !answer.status.is_success() {
            return Err(refusal(&answer));
        }
        let header = |name: &str| {
            let value = answer.headers.get(name)?;
            value.to_str().ok().map(str::to_string)
        };
        let (next, seen) = (header("gramme-next"), header("gramme-seen"));
        Ok(Records { rows: answer.body, next, seen })
    }

    /// Gives rows of a backup back to the cluster, as docs/http.md describes it: nothing that was overwritten or
    /// deleted since comes back, unless the values are to be written `anew`. Names the rows that could not be
    /// stored.
    pub async fn restore(&self, rows: Bytes, anew: bool) -> Result<Json, Error> {
        let mut ask = Ask::new(Method::POST, format!("{RECORDS}?anew={}", u8::from(anew)));
        ask.granted = Some(COPY_TIME);
        ask.body = rows;
        self.json(&ask).await
    }

    /// What one node knows of the cluster, as docs/http.md describes it.
    pub async fn status(&self) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, STATUS.to_string())).await
    }

    /// How the cluster is, by one node that has asked all the others, as docs/http.md describes it.
    pub async fn overview(&self) -> Result<Json, Error> {
        let mut ask = Ask::new(Method::GET, OVERVIEW.to_string());
        // The node waits for those that do not answer it.
        ask.granted = Some(OVERVIEW_TIME);
        self.json(&ask).await
    }

    /// The same of this one of [`Client::nodes`] and of no other.
    pub async fn status_of(&self, node: &str) -> Result<Json, Error> {
        let ask = Ask::new(Method::GET, STATUS.to_string());
        json_of(self.exchange.call_at(&base_of(node)?, &ask).await?)
    }

    /// What every known node says of itself: its address, and its status or why it gave none.
    pub async fn statuses(&self) -> Vec<(String, Result<Json, Error>)> {
        self.everywhere(Ask::new(Method::GET, STATUS.to_string())).await
    }

    /// What every known node's clients asked for lately, by partition, as docs/http.md describes it.
    pub async fn loads(&self) -> Vec<(String, Result<Json, Error>)> {
        self.everywhere(Ask::new(Method::GET, LOAD.to_string())).await
    }

    /// How every known node's partitions compare with their other homes, as docs/http.md describes it.
    pub async fn repairs(&self) -> Vec<(String, Result<Json, Error>)> {
        self.everywhere(Ask::new(Method::GET, REPAIR.to_string())).await
    }

    /// Has every known node compare all of its partitions now; answers at once, as [`Client::repairs`].
    pub async fn repair_now(&self) -> Vec<(String, Result<Json, Error>)> {
        self.everywhere(Ask::new(Method::POST, format!("{REPAIR}/now"))).await
    }

    /// Has every known node reread a bucket, or everything; answers at once, as [`Client::repairs`].
    pub async fn repair_verify(&self, bucket: Option<&str>) -> Vec<(String, Result<Json, Error>)> {
        let query = bucket
            .map(|bucket| format!("?bucket={}", crate::request::encoded(bucket.as_bytes())))
            .unwrap_or_default();
        self.everywhere(Ask::new(Method::POST, format!("{REPAIR}/verify{query}"))).await
    }

    /// The ring as one node knows it: layouts, how far everyone has come, what is staged and who asks to join, as
    /// docs/http.md describes it.
    pub async fn layout(&self) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, LAYOUT.to_string())).await
    }

    /// The same of every node that counts while the ring changes. Nodes that come are learned on the way.
    pub async fn layouts(&self) -> Vec<(String, Result<Json, Error>)> {
        self.learn_of_the_ring(&COUNTED).await;
        self.everywhere(Ask::new(Method::GET, LAYOUT.to_string())).await
    }

    /// The same of this one node and of no other.
    pub async fn layout_of(&self, node: &str) -> Result<Json, Error> {
        let ask = Ask::new(Method::GET, LAYOUT.to_string());
        json_of(self.exchange.call_at(&base_of(node)?, &ask).await?)
    }

    /// The layouts that there were, oldest first, as docs/http.md describes them.
    pub async fn history(&self) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, "/v1/cluster/history".to_string())).await
    }

    /// Stages a change of the ring, as docs/http.md describes it; gives back what [`Client::layout`] does.
    pub async fn stage(&self, change: &Json) -> Result<Json, Error> {
        self.json(&Ask::object(Method::POST, STAGED.to_string(), change)?).await
    }

    /// Takes back all that is staged; gives back what [`Client::layout`] does.
    pub async fn unstage(&self) -> Result<Json, Error> {
        self.json(&Ask::new(Method::DELETE, STAGED.to_string())).await
    }

    /// What committing what is staged would do, as docs/http.md describes it.
    pub async fn plan(&self) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, "/v1/cluster/plan".to_string())).await
    }

    /// Commits the plan of a hash; gives back its layouts. `force` is for a cluster that has lost a majority of its
    /// members for good: it begins a new lineage.
    pub async fn commit(&self, hash: &str, force: bool) -> Result<Json, Error> {
        let mut ask = Ask::object(
            Method::POST,
            "/v1/cluster/commit".to_string(),
            &json!({ "hash": hash, "force": force }),
        )?;
        // Another node that is asked as well would compete with the first.
        ask.granted = Some(COMMIT_TIME);
        self.json(&ask).await
    }

    /// Goes back to the layout that is read by; gives back what [`Client::layout`] does.
    pub async fn abort(&self) -> Result<Json, Error> {
        let mut ask = Ask::new(Method::POST, "/v1/cluster/abort".to_string());
        ask.granted = Some(COMMIT_TIME);
        self.json(&ask).await
    }

    /// What comes to every node and what it hands over because the ring changes, as docs/http.md describes it.
    pub async fn transfers(&self) -> Vec<(String, Result<Json, Error>)> {
        self.learn_of_the_ring(&COUNTED).await;
        self.everywhere(Ask::new(Method::GET, TRANSFERS.to_string())).await
    }

    /// Has every node pause or resume its transfers, those that ask to join included: one may have been told to pause
    /// when it was to come. Answers as [`Client::transfers`].
    pub async fn pause_transfers(&self, paused: bool) -> Result<Vec<(String, Result<Json, Error>)>, Error> {
        self.learn_of_the_ring(&ALL).await;
        let ask = Ask::object(Method::POST, TRANSFERS.to_string(), &json!({ "paused": paused }))?;
        Ok(self.everywhere(ask).await)
    }

    /// Nodes that come or go are in no layout that is read by; the ring of one that counts them knows where they are, in
    /// these lists. If nobody says, those that are known have to do.
    async fn learn_of_the_ring(&self, lists: &[&str]) {
        let Ok(layout) = self.layout().await else { return };
        let nodes = lists.iter().flat_map(|list| layout[*list].as_array().into_iter().flatten());
        for http in nodes.filter_map(|node| node["http"].as_str()) {
            if let Ok(base) = base_of(http) {
                self.exchange.nodes().add(base);
            }
        }
    }

    async fn everywhere(&self, ask: Ask) -> Vec<(String, Result<Json, Error>)> {
        let ask = Arc::new(ask);
        let asked = self.nodes().into_iter().map(|node| {
            let (exchange, ask) = (self.exchange.clone(), ask.clone());
            tokio::spawn(async move {
                let status = exchange.call_at(&node, &ask).await.and_then(json_of);
                (node, status)
            })
        });
        let mut statuses = Vec::new();
        // All are under way before the first is waited for; one that panicked has nothing to say.
        for answer in asked.collect::<Vec<_>>() {
            statuses.extend(answer.await.ok());
        }
        statuses
    }

    /// Where a key lives and what each of its homes holds, as docs/http.md describes it.
    pub async fn ring(&self, bucket: &str, key: &[u8]) -> Result<Json, Error> {
        self.json(&Ask::new(Method::GET, key_path("/v1/ring", bucket, key)?)).await
    }

    async fn json(&self, ask: &Ask) -> Result<Json, Error> {
        json_of(self.exchange.call(ask).await?)
    }
}

fn json_of(answer: Answer) -> Result<Json, Error> {
    if !answer.status.is_success() {
        return Err(refusal(&answer));
    }
    serde_json::from_slice(&answer.body).map_err(|e| Error::not_understood(&answer.node, e))
}

fn written(answer: Answer) -> Result<Written, Error> {
    if !answer.status.is_success() {
        return Err(refusal(&answer));
    }
    Ok(Written { context: context_of(&answer)?, via: Via::of(&answer) })
}

/// A single value in the form that a resolver sees; its name, time and author travel only with siblings.
fn lone(value: &crate::Value) -> Sibling {
    Sibling {
        id: String::new(),
        bytes: Some(value.bytes.clone()),
        content_type: value.content_type.clone(),
        meta: value.meta.clone(),
        time: String::new(),
        node: String::new(),
    }
}

/// `http://host:port` from what people write.
fn base_of(node: &str) -> Result<String, Error> {
    let trimmed = node.trim().trim_end_matches('/');
    let bad =
        |why: &str| Error::argument(format!("{node:?} is no node address ({why}): write http://host:port"));
    let authority = match trimmed.split_once("://") {
        None => trimmed,
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(bad(&format!("{scheme} is not spoken here"))),
    };
    let base = format!("http://{authority}");
    match base.parse::<Uri>() {
        Ok(uri) if uri.path() == "/" && uri.query().is_none() && uri.port_u16().is_some() => Ok(base),
        Ok(uri) if uri.port_u16().is_none() => Err(bad("the port is missing")),
        Ok(_) => Err(bad("only host and port belong there")),
        Err(e) => Err(bad(&e.to_string())),
    }
}

/// A page of a partition's records.
#[derive(Clone, Debug)]
pub struct Records {
    /// As docs/format/backup.md lays rows out.
    pub rows: Bytes,
    /// Where the next page starts; `None` if this was the last.
    pub next: Option<String>,
    /// As long as this stays the same, nothing was written in the partition; `None` if its homes do not agree.
    pub seen: Option<String>,
}

/// Pages of records may have to be read from disks.
const COPY_TIME: Duration = Duration::from_secs(5);
const OVERVIEW_TIME: Duration = Duration::from_secs(3);
/// Members sync before they answer, and a plan may have several layouts.
const COMMIT_TIME: Duration = Duration::from_secs(20);
const OVERVIEW: &str = "/v1/cluster/overview";
const RECORDS: &str = "/v1/cluster/records";
const KV: &str = "/v1/kv";
const STATUS: &str = "/v1/cluster/status";
const LOAD: &str = "/v1/cluster/load";
const LAYOUT: &str = "/v1/cluster/layout";
const STAGED: &str = "/v1/cluster/staged";
const TRANSFERS: &str = "/v1/cluster/transfers";
const REPAIR: &str = "/v1/cluster/repair";
/// Lists of a ring, as a node tells it: nodes whose word counts, or that still have something.
const COUNTED: [&str; 2] = ["progress", "leaving"];
const ALL: [&str; 3] = ["progress", "leaving", "asking"];

#[cfg(test)]
mod tests {
    use super::base_of;

    #[test]
    fn node_addresses_are_taken_as_people_write_them() {
        for good in ["http://127.0.0.1:7400", "127.0.0.1:7400", " http://127.0.0.1:7400/ "] {
            assert_eq!(base_of(good).unwrap(), "http://127.0.0.1:7400");
        }
        for (bad, why) in [
            ("https://a:1", "https is not spoken here"),
            ("http://a", "the port is missing"),
            ("http://a:1/v1", "only host and port"),
            ("", "no node address"),
        ] {
            let error = base_of(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
