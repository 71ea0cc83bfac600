// The blocks of code in a Markdown document, by section. Pure.
//
// Used by the tests that run the commands of the documents.

/** A fenced block. */
export interface Block {
  /** The word behind the opening fence: `sh` for commands. */
  readonly language: string;
  readonly text: string;
  /** Line of the document on which the text begins, from 1. */
  readonly line: number;
  /** The nearest heading above. */
  readonly section: string;
}

/** The blocks of a document in their order. @throws Error for a block that is indented, or has no end */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  let section = '';
  let open: { language: string; line: number; lines: string[] } | undefined;
  let before = '';
  markdown.split('\n').forEach((line, i) => {
    const fence = /^```(.*)$/.exec(line);
    if (open !== undefined) {
      if (fence === null) open.lines.push(line);
      else {
        blocks.push({ ...open, text: open.lines.join('\n'), section });
        open = undefined;
      }
    } else if (fence !== null) open = { language: fence[1].trim(), line: i + 2, lines: [] };
    else if (/^#+ /.test(line)) section = line.replace(/^#+ /, '');
    else if (before === '' && /^ {4}\S/.test(line))
      throw new Error(`line ${i + 1}: an indented block; put it between fences, with its language`);
    before = line;
  });
  if (open !== undefined) throw new Error('a block without an end');
  return blocks;
}

/** Blocks of the language `sh` with all their texts, by section. */
export function commandSections(markdown: string): Map<string, Block[]> {
  const sections = new Map<string, Block[]>();
  for (const block of blocksOf(markdown)) {
    if (block.language !== 'sh') continue;
    sections.set(block.section, [...(sections.get(block.section) ?? []), block]);
  }
  return sections;
}

/** The commands of a manual page's EXAMPLES, which are indented there, with the name of each example. */
export function manualExamples(page: string): [name: string, commands: string][] {
  const [, examples = ''] = /^## EXAMPLES$([\s\S]*?)^## /m.exec(page) ?? [];
  return examples
    .split(/^### /m)
    .slice(1)
    .map((one) => {
      const [name, ...lines] = one.split('\n');
      const commands = lines.filter((line) => line.startsWith('    ')).map((line) => line.trim());
      return [name, commands.join('\n')];
    });
}
