// The completion script for bash. Pure.
//
// bash divides words at the characters of COMP_WORDBREAKS, such as "=" and ":", and replaces the part after the last of
// them. The script joins the parts, completes whole words, and cuts what bash keeps.

import { CACHE_ACTIONS } from './cache-words.js';
import { CHOICES, OPTIONS } from './options.js';
import { MODE_WORDS } from './server-mode.js';

/** Options that take the name of a file. */
const FILE_OPTIONS = [
  ...['--pidfile', '--pid-file', '-P', '--key-file', '--overlay'],
  ...['--cache-file', '--cache-dir', '--trace', '--log-file'],
];

const SERVERS = [...MODE_WORDS, 'nbd://', 'nbds://', 'nbd+unix:///', 'nbd+vsock://', 'nbd+ssh://'];

const COMMANDS = ['[', '--command', '--cmd', '--socket-activation', '--systemd-socket-activation'];

/** Functions that do not depend on the options. */
const FUNCTIONS = String.raw`# Joins the parts of COMP_WORDS up to the cursor. Sets words, and kept: the part of the last word that bash keeps.
_nbdfuse_words() {
  local line=${'$'}{COMP_LINE:0:COMP_POINT} rest part i
  words=() kept=
  for ((i = 0; i <= COMP_CWORD; i++)); do
    rest=${'$'}{line#"${'$'}{line%%[![:space:]]*}"}
    part=${'$'}{COMP_WORDS[i]}
    if ((i == COMP_CWORD)); then part=$rest; fi
    if [[ $rest != "$line" ]] || ((i == 0)); then
      words+=("$part") kept=
    else
      kept=${'$'}{words[${'$'}{#words[@]} - 1]}
      words[${'$'}{#words[@]} - 1]+=$part
    fi
    if ((i == COMP_CWORD)) && [[ $part =~ ^[=:]+$ ]]; then kept+=$part; fi
    line=${'$'}{rest#"$part"}
  done
}

# Adds the words of $1 that begin with $2, each after $3.
_nbdfuse_add() {
  local one found
  mapfile -t found < <(compgen -W "$1" -- "$2")
  for one in "${'$'}{found[@]}"; do COMPREPLY+=("$3$one"); done
}

# Adds the files that begin with $1, each after $2.
_nbdfuse_files() {
  local one found
  mapfile -t found < <(compgen -f -- "$1")
  for one in "${'$'}{found[@]}"; do COMPREPLY+=("$2$one"); done
  if ((${'$'}{#found[@]} > 0)); then compopt -o filenames 2>/dev/null; fi
}

# Adds the mountpoints of nbdfuse that begin with $1, without access to the mounts, which may hang.
_nbdfuse_mountpoints() {
  local path type
  while read -r _ path type _; do
    [[ $type == fuse.nbdfuse ]] || continue
    printf -v path %b "${'$'}{path//\\/\\0}"
    if [[ $1 != /* ]]; then path=${'$'}{path#"$PWD/"}; fi
    if [[ $path == "$1"* ]]; then COMPREPLY+=("$(printf %q "$path")"); fi
  done </proc/self/mounts
}`;

function valueCases(): string {
  const choices = Object.entries(CHOICES).map(
    ([name, values]) => `    ${name}) _nbdfuse_add '${values.join(' ')}' "$2" "$3" ;;`,
  );
  return [...choices, `    ${FILE_OPTIONS.join('|')}) _nbdfuse_files "$2" "$3" ;;`].join('\n');
}

function cacheCases(): string {
  return Object.entries(CACHE_ACTIONS)
    .map(
      ([action, options]) =>
        `      ${action}) _nbdfuse_add '${options.map(({ name }) => name).join(' ')}' "$word" ;;`,
    )
    .join('\n');
}

/** The functions for the words of one place. */
function placeFunctions(): string {
  return `# Adds the values of the option $1 that begin with $2, each after $3.
_nbdfuse_values() {
  case $1 in
${valueCases()}
  esac
}

# Adds the words after \`nbdfuse cache ACTION\`.
_nbdfuse_cache() {
  if [[ $word != -* ]]; then _nbdfuse_files "$word"; return; fi
  case \${words[2]} in
${cacheCases()}
  esac
}

# Adds the words after MOUNTPOINT, or after --list: $1 is the number of the first of them.
_nbdfuse_server() {
  if (($1 == last)); then
    _nbdfuse_add '${SERVERS.join(' ')}' "$word"
    _nbdfuse_files "$word"
    return
  fi
  case \${words[$1]} in
    '${COMMANDS[0]}'|${COMMANDS.slice(1).join('|')})
      if (($1 + 1 == last)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
      elif [[ \${words[$1]} == '[' ]]; then
        _nbdfuse_add ']' "$word"
      fi
      _nbdfuse_files "$word" ;;
    --unix) _nbdfuse_files "$word" ;;
  esac
}`;
}

/** The script. */
export function bashCompletion(): string {
  const names = OPTIONS.flatMap((option) => option.names);
  const valued = OPTIONS.filter(({ required }) => required).flatMap((option) => option.names);
  const actions = Object.keys(CACHE_ACTIONS);
  return `# bash completion of nbdfuse: source <(nbdfuse --completion bash)

${FUNCTIONS}

${placeFunctions()}

_nbdfuse_all() {
  local first=1 about=
  while ((first < last)); do
    case \${words[first]} in
      ${valued.join('|')}) ((first += 2)) ;;
      --status|--unmount|--list) about=\${words[first]}; ((first++)) ;;
      -*) ((first++)) ;;
      *) break ;;
    esac
  done
  if ((first > last)); then _nbdfuse_values "\${words[last - 1]}" "$word"; return; fi
  if [[ \${words[1]} == cache ]] && ((last == 2)); then _nbdfuse_add '${actions.join(' ')}' "$word"; fi
  if [[ \${words[1]} == cache ]] && ((last > 2)) && [[ \${words[2]} =~ ^(${actions.join('|')})$ ]]; then
    _nbdfuse_cache
  elif ((first < last)); then
    case $about in
      --list) _nbdfuse_server "$first" ;;
      '') _nbdfuse_server "$((first + 1))" ;;
    esac
  elif [[ $word == --*=* ]]; then
    _nbdfuse_values "\${word%%=*}" "\${word#*=}" "\${word%%=*}="
  elif [[ $word == -* && $about != --list ]]; then
    _nbdfuse_add '${names.join(' ')}' "$word"
  elif [[ $about == --list ]]; then
    _nbdfuse_server "$first"
  elif [[ $about != '' ]]; then
    _nbdfuse_mountpoints "$word"
  else
    _nbdfuse_files "$word"
  fi
}

_nbdfuse() {
  local words kept word last i
  _nbdfuse_words
  last=$((\${#words[@]} - 1))
  # As typed, a name may have a quote before it, and backslashes.
  word=\${words[last]#[\\"\\']}
  word=\${word//\\\\/}
  COMPREPLY=()
  _nbdfuse_all
  kept=\${kept#[\\"\\']}
  kept=\${kept//\\\\/}
  for i in "\${!COMPREPLY[@]}"; do
    if [[ \${COMPREPLY[i]} == */ ]]; then compopt -o nospace 2>/dev/null; fi
    COMPREPLY[i]=\${COMPREPLY[i]#"$kept"}
  done
}
complete -F _nbdfuse nbdfuse
`;
}
