# The commands of README.md, as a person copies them: its blocks of the language `sh`, by section.
#
# Sourced by scripts/bare-machine, scripts/package-steps and scripts/readme-examples.

# readme_blocks README SECTION: the blocks of a section, each behind a line `# block`.
readme_blocks() {
  awk -v section="$2" '
    !code && /^#+ / { title = $0; sub(/^#+ /, "", title); here = title == section }
    here && /^```/ { code = /^```sh$/; if (code) print "# block"; next }
    here && code { print }' "$1"
}

# readme_block README SECTION NUMBER: one of them, from 1.
readme_block() { readme_blocks "$1" "$2" | awk -v number="$3" '/^# block$/ { n++; next } n == number'; }

# readme_package README: the command that installs QEMU, which stands in a sentence.
readme_package() { sed -nE 's/.*`(apt-get install qemu-system-x86)`.*/\1/p' "$1"; }

# readme_examples README: all examples, in the order in which a person without a disk image runs them, and each use
# twice, as a person does who tries it again.
readme_examples() {
  local section
  {
    readme_blocks "$1" 'A disk to try'
    readme_blocks "$1" nbdfuse
    awk '/^## / { here = /^## Common uses$/ } here && sub(/^### /, "") && !/^A disk to try$/' "$1" |
      while read -r section; do
        readme_blocks "$1" "$section"
        readme_blocks "$1" "$section"
      done
  } | grep -v '^# block$'
  # The end of the servers, which stands in a sentence.
  sed -nE 's/.*`(kill %[^`]+)`.*/\1/p' "$1"
}
