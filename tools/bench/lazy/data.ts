// The bytes of the image that the cases of lazy images read: the same at each run, and about as compressible as
// the disk of a system: text, records of machine code, compressed bytes, and zeros.

import { closeSync, openSync, writeSync } from 'node:fs';

const MIB = 2 ** 20;

/** Numbers from 0 to 2^32 - 1 that only depend on the seed (mulberry32). */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

type Random = ReturnType<typeof createRandom>;
type Fill = (part: Buffer, random: Random) => void;

const VOCABULARY = 6000;

/** Words of 1 to 11 letters, the first ones short, each with the space behind it. */
function makeWords(random: Random): readonly Buffer[] {
  return Array.from({ length: VOCABULARY }, (_, i) => {
    const length = 1 + (random() % (i < 100 ? 4 : 11));
    const letters = Array.from(
      { length },
      () => 'etaoinshrdlucmfwypvbgkjqxz'[(random() % 26) & (random() % 26)],
    );
    return Buffer.from(`${letters.join('')}${random() % 12 === 0 ? '.\n' : ' '}`);
  });
}

/** Groups of 3 to 11 bytes, as instructions. */
const makeGroups = (random: Random): readonly Buffer[] =>
  Array.from({ length: 3000 }, () =>
    Buffer.from(Array.from({ length: 3 + (random() % 9) }, () => random() & 255)),
  );

/** Copies words, the first of the list most often. `operand`: how many random bytes follow one. */
function fillWith(words: readonly Buffer[], operand: (random: Random) => number): Fill {
  return (part, random) => {
    let at = 0;
    while (at < part.length) {
      const uniform = random() / 2 ** 32;
      const word = words[Math.floor(words.length * uniform ** 3)];
      at += word.copy(part, at);
      for (let left = operand(random); left > 0 && at < part.length; left--) part[at++] = random();
    }
  };
}

const fillRandom: Fill = (part, random) => {
  for (let at = 0; at + 4 <= part.length; at += 4) part.writeUInt32LE(random(), at);
};

/** Writes `bytes`, a multiple of 1 MiB, to a new file: parts of 64 KiB to 1 MiB of one kind each. */
export function writeImage(path: string, bytes: number): void {
  const random = createRandom(bytes / MIB);
  const fillText = fillWith(makeWords(random), () => 0);
  const fillCode = fillWith(makeGroups(random), (next) => (next() % 4 === 0 ? 2 : 0));
  const kinds: readonly (Fill | undefined)[] = [
    ...Array.from({ length: 7 }, () => fillText),
    ...Array.from({ length: 4 }, () => fillCode),
    fillRandom,
    ...Array.from({ length: 9 }, () => undefined),
  ];
  const file = openSync(path, 'wx');
  const block = Buffer.alloc(MIB);
  for (let offset = 0; offset < bytes; offset += MIB) {
    block.fill(0);
    for (let at = 0; at < MIB; ) {
      const length = Math.min(MIB - at, (1 + (random() % 16)) * 64 * 1024);
      kinds[random() % kinds.length]?.(block.subarray(at, at + length), random);
      at += length;
    }
    writeSync(file, block);
  }
  closeSync(file);
}
