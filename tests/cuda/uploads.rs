//! Uploads: small ones, those by way of pinned memory, and those too large for it.

use super::devices;
use lea::tensor::Tensor;

/// What is uploaded is what the host had when it asked, whatever it does with its memory afterwards, also where more is
/// under way than pinned memory holds.
#[test]
fn uploads_hold_what_the_host_had_when_it_asked() {
    for device in devices("uploads") {
        let mut data = Vec::new();
        let mut upload = |number: u32, len: usize| {
            data.clear();
            data.extend((0..len as u32).map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(number)));
            let there = Tensor::from_ids(&device, &data).unwrap();
            data.fill(7);
            (number, there)
        };
        let lengths = [0, 1, 8191, 8192, 8193, 300_000, 2 << 20, (2 << 20) + 1];
        let mut uploads: Vec<_> = lengths.iter().zip(0..).map(|(&len, number)| upload(number, len)).collect();
        uploads.extend((100..180).map(|number| upload(number, 200_000 + 3000 * (number as usize % 5))));
        for (number, there) in uploads {
            let found = there.to_vec::<u32>().unwrap();
            let want = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(number);
            let wrong = found.iter().enumerate().position(|(i, &x)| x != want(i));
            assert_eq!(wrong, None, "upload {number} of {} to {device}", found.len());
        }
    }
}
