//! Arguments of every shape, and what is inferred from them.

use std::{collections::HashMap, error::Error};

use crate::{Stats, square, weigh};

#[cw::job]
#[expect(clippy::ptr_arg, reason = "users write it")]
fn sizes(stats: &Stats, xs: &[f64], counts: &HashMap<String, u32>, bytes: &Vec<u8>) -> f64 {
    stats.mean + xs.iter().sum::<f64>() + counts.len() as f64 + bytes.len() as f64
}

#[cw::job]
fn of_a_pair(pair: (u64, u64)) -> u64 {
    pair.0 + pair.1
}

#[cw::job]
fn of_a_single(single: (u64,)) -> u64 {
    single.0
}

#[cw::job]
fn maybe(list: Option<Vec<(String, [u8; 4])>>) -> usize {
    list.map_or(0, |list| list.len())
}

#[cw::job]
fn swap((a, b): (u64, u64)) -> (u64, u64) {
    (b, a)
}

#[tokio::test]
async fn borrowed_and_converted() -> cw::Result<()> {
    let (name, data, stats) = (String::from("abc"), vec![1u8; 10], Stats { mean: 2.0 });
    let counts = HashMap::new();
    assert_eq!(cw::spawn(weigh, (&name[..], &data[..], &stats)).await?, 15);
    assert_eq!(cw::spawn(weigh, weigh.args(&name, &data, &stats)).await?, 15);
    assert_eq!(cw::spawn(sizes, (&stats, &[1.0, 2.0][..], &counts, &data)).await?, 15.0);
    assert_eq!(cw::spawn(sizes, sizes.args(&stats, &[1.0, 2.0], &counts, &data)).await?, 15.0);
    Ok(())
}

#[tokio::test]
async fn inferred() -> Result<(), Box<dyn Error>> {
    assert_eq!(cw::spawn(square, square.args("12".parse()?)).await?, 144);
    assert_eq!(cw::spawn(square, ("12".parse()?,)).await?, 144);
    assert_eq!(cw::spawn(maybe, None).await?, 0);
    assert_eq!(cw::spawn(maybe, (None,)).await?, 0);
    assert_eq!(cw::spawn(maybe, Some(vec![("a".to_owned(), [0; 4])])).await?, 1);
    Ok(())
}

#[tokio::test]
async fn tuples_that_are_arguments() -> cw::Result<()> {
    assert_eq!(cw::spawn(of_a_pair, (1, 2)).await?, 3);
    assert_eq!(cw::spawn(of_a_pair, ((1, 2),)).await?, 3);
    assert_eq!(cw::spawn(of_a_single, (1,)).await?, 1);
    assert_eq!(cw::spawn(of_a_single, ((1,),)).await?, 1);
    let swapped: HashMap<u64, u64> = cw::map(swap, [(1, 2), (3, 4)]).collect().await?;
    assert_eq!(swapped, HashMap::from([(2, 1), (4, 3)]));
    Ok(())
}

#[tokio::test]
async fn inputs_of_a_map() -> cw::Result<()> {
    let (names, data, stats) = (["a", "bb"].map(String::from), vec![1u8; 10], Stats { mean: 2.0 });
    let inputs = names.iter().map(|name| (name.as_str(), &data[..], &stats));
    assert_eq!(cw::map(weigh, inputs).await?, [13, 14]);
    assert_eq!(cw::map(square, vec![1, 2, 3]).await?, [1, 4, 9]);
    assert_eq!(cw::map(square, [1u64, 2].iter().copied()).await?, [1, 4]);
    let total: u64 = cw::map(square, 0..10).collect::<Vec<_>>().await?.iter().sum();
    assert_eq!(total, 285);
    Ok(())
}
