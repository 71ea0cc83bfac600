// Lets Jazzer.js run where the C library is older than the one it was built with (Debian 12: 2.36).
//
// Its prebuilt libFuzzer asks for three symbols by the newest of their names: strtol and strtoul as C23 has
// them (glibc 2.38; the older ones do not parse "0b101", which is not used here), and a marker symbol of
// libstdc++ 13 that is never called. This script makes it require the older names, and makes the marker
// optional. It changes nothing if the file loads without a change. ELF for 64 bits, little-endian.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const SHT_DYNSYM = 11;
const SHT_GNU_VERNEED = 0x6ffffffe;
const STB_WEAK = 2;
const VER_FLG_WEAK = 2;
const SYMBOL = 24;
const C23 = '__isoc23_';
const MARK = '_ZSt21ios_base_library_initv';

/** The sections of an ELF file. */
function sectionsOf(file) {
  const start = Number(file.readBigUInt64LE(40));
  const [size, count] = [file.readUInt16LE(58), file.readUInt16LE(60)];
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * size;
    return {
      type: file.readUInt32LE(at + 4),
      offset: Number(file.readBigUInt64LE(at + 24)),
      size: Number(file.readBigUInt64LE(at + 32)),
      link: file.readUInt32LE(at + 40),
    };
  });
}

/** Every required version: its place and its library. */
function* versionsOf(file, section) {
  for (let need = section.offset; ; need += file.readUInt32LE(need + 12)) {
    let at = need + file.readUInt32LE(need + 8);
    for (let i = 0; i < file.readUInt16LE(need + 2); i++) {
      yield { need, at };
      at += file.readUInt32LE(at + 12);
    }
    if (file.readUInt32LE(need + 12) === 0) return;
  }
}

function fit(path) {
  const file = readFileSync(path);
  const sections = sectionsOf(file);
  const symbols = sections.find(({ type }) => type === SHT_DYNSYM);
  const names = sections[symbols.link];
  const nameAt = (at) => {
    const start = names.offset + file.readUInt32LE(at);
    return file.toString('latin1', start, file.indexOf(0, start));
  };
  for (let at = symbols.offset; at < symbols.offset + symbols.size; at += SYMBOL) {
    const name = nameAt(at);
    if (name.startsWith(C23)) file.writeUInt32LE(file.readUInt32LE(at) + C23.length, at);
    else if (name === MARK) file[at + 4] = (STB_WEAK << 4) | (file[at + 4] & 15);
  }
  const section = sections.find(({ type }) => type === SHT_GNU_VERNEED);
  const versions = [...versionsOf(file, section)].map((one) => ({
    ...one,
    library: nameAt(one.need + 4),
    name: nameAt(one.at + 8),
  }));
  const oldest = versions.find(
    ({ library, name }) => library === 'libc.so.6' && /^GLIBC_2\.(2\.5|17)$/.test(name),
  );
  for (const { at, name } of versions) {
    if (name === 'GLIBC_2.38' && oldest !== undefined) {
      file.copy(file, at, oldest.at, oldest.at + 4);
      file.copy(file, at + 8, oldest.at + 8, oldest.at + 12);
    } else if (name === 'GLIBCXX_3.4.32') file.writeUInt16LE(VER_FLG_WEAK, at + 4);
  }
  writeFileSync(path, file);
}

const require = createRequire(import.meta.url);
const path = require.resolve(`@jazzer.js/fuzzer/prebuilds/fuzzer-${process.platform}-${process.arch}.node`);
const loads = () => {
  try {
    require(path);
    return undefined;
  } catch (error) {
    return error;
  }
};
const reason = loads();
if (reason !== undefined) {
  if (!/version `GLIBC(XX)?_/.test(reason.message)) throw reason;
  fit(path);
}
