//! Sorts many ids by what they stand for, without looking at that each time two are compared.

use crate::value::Key;

/// Bytes of a text that stand in a head.
const HEAD: usize = 7;

/// Fewer are compared as they are.
const COMPARED_MAX: usize = 32;

/// Heads of one text that are tried; what is still equal then is compared.
const DEPTH_MAX: usize = 16;

/// Puts ids in the order of their keys; those with equal ones stand by their numbers.
pub(crate) fn sort_by_key<'a>(ids: &mut [u32], key: &dyn Fn(u32) -> Key<'a>) {
    let mut numeric = 0;
    for at in 0..ids.len() {
        if key(ids[at]).number.is_some() {
            ids.swap(at, numeric);
            numeric += 1;
        }
    }
    let (numbers, texts) = ids.split_at_mut(numeric);
    let mut heads: Vec<(u64, u32)> = Vec::with_capacity(numbers.len());
    heads.extend(numbers.iter().map(|id| (ordered(key(*id).number.unwrap_or_default()), *id)));
    heads.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| key(a.1).text.cmp(key(b.1).text)).then(a.1.cmp(&b.1))
    });
    numbers.iter_mut().zip(&heads).for_each(|(id, head)| *id = head.1);
    drop(heads);
    sort_by_text(texts, &|id| key(id).text);
}

/// Puts ids in the order of their texts; those with equal ones stand by their numbers.
pub(crate) fn sort_by_text<'a>(ids: &mut [u32], text: &dyn Fn(u32) -> &'a [u8]) {
    sort_rest(ids, text, 0, DEPTH_MAX);
}

/// The same by what is behind the first `from` bytes, which the texts have in common.
fn sort_rest<'a>(ids: &mut [u32], text: &dyn Fn(u32) -> &'a [u8], from: usize, depth: usize) {
    if ids.len() <= COMPARED_MAX || depth == 0 {
        ids.sort_unstable_by(|a, b| text(*a)[from..].cmp(&text(*b)[from..]).then(a.cmp(b)));
        return;
    }
    let from = from + common(ids, text, from);
    let mut heads: Vec<(u64, u32)> = ids.iter().map(|id| (head(&text(*id)[from..]), *id)).collect();
    heads.sort_unstable();
    ids.iter_mut().zip(&heads).for_each(|(id, head)| *id = head.1);
    let mut undecided = Vec::new();
    let mut start = 0;
    for same in heads.chunk_by(|a, b| a.0 == b.0) {
        // Texts that end within their head are equal altogether.
        if same.len() > 1 && text(same[0].1).len() > from + HEAD {
            undecided.push(start..start + same.len());
        }
        start += same.len();
    }
    drop(heads);
    for range in undecided {
        sort_rest(&mut ids[range], text, from + HEAD, depth - 1);
    }
}

/// How many bytes behind the first `from` all texts have in common.
fn common<'a>(ids: &[u32], text: &dyn Fn(u32) -> &'a [u8], from: usize) -> usize {
    let Some((first, rest)) = ids.split_first() else { return 0 };
    let first = &text(*first)[from..];
    rest.iter().fold(first.len(), |common, id| {
        let pairs = first[..common].iter().zip(&text(*id)[from..]);
        pairs.take_while(|(a, b)| a == b).count()
    })
}

/// What begins a text, as a number in the same order. Zeros fill up a short text; the last byte tells it
/// from one that has them itself.
fn head(text: &[u8]) -> u64 {
    let mut bytes = [0; HEAD + 1];
    let len = text.len().min(HEAD);
    bytes[..len].copy_from_slice(&text[..len]);
    bytes[HEAD] = u8::try_from(text.len().min(HEAD + 1)).unwrap_or(u8::MAX);
    u64::from_be_bytes(bytes)
}

/// A number as bits in the same order.
fn ordered(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[String]) {
        let key = |id: u32| Key::of_text(&texts[id as usize]);
        let text = |id: u32| texts[id as usize].as_bytes();
        let ids: Vec<u32> = (0..).take(texts.len()).collect();
        let mut expected = ids.clone();
        expected.sort_by(|a, b| key(*a).cmp(&key(*b)));
        let mut sorted: Vec<u32> = ids.iter().rev().copied().collect();
        sort_by_key(&mut sorted, &key);
        assert_eq!(sorted, expected, "{texts:?}");
        expected.clone_from(&ids);
        expected.sort_by_key(|id| text(*id));
        sorted.clone_from(&ids);
        sort_by_text(&mut sorted, &text);
        assert_eq!(sorted, expected, "{texts:?}");
    }

    #[test]
    fn ids_stand_by_number_and_text_whatever_texts_have_in_common() {
        let mut state = 5_u64;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % n
        };
        for round in 0..60 {
            let parts = ["a", "b", "\0", "line-", "factory-07/", "1", "0", ".", "é"];
            let first = ["", "plant/", "1"][round % 3];
            let texts: Vec<String> = (0..1 + below(700))
                .map(|_| (0..below(12)).map(|_| parts[below(parts.len())]).collect::<String>())
                .map(|text| format!("{first}{text}"))
                .collect();
            check(&texts);
        }
    }

    #[test]
    fn equal_texts_and_ever_longer_ones_come_to_an_end() {
        check(&[]);
        check(&vec!["all the same, and longer than a head".to_owned(); 100]);
        check(&(0..300).rev().map(|n| "a".repeat(n)).collect::<Vec<_>>());
        check(&(0..300).map(|n| format!("{}\0", "\0".repeat(n))).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_are_ordered_by_their_bits() {
        let numbers = [f64::MIN, -3.0, -0.5, 0.0, 5e-324, 0.5, 3.0, f64::MAX];
        assert!(numbers.is_sorted_by(|a, b| ordered(*a) < ordered(*b)));
    }
}
