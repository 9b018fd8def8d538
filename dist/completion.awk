# SPDX-License-Identifier: GPL-2.0-or-later
#
# completion.awk - completion of nat64(8) for a shell, made of the list of options that --help prints:
#
#	nat64 --help | awk -v shell=bash -f dist/completion.awk		or zsh, or fish

# A line of an option: "  -t, --timeout SECONDS     an idle mapping expires after this (default 7440)"
/^ +(-., )?--[a-z]/ {
	n++
	sub(/^ +/, "")
	if (/^-., /)
		letter[n] = substr($0, 2, 1)
	sub(/^(-., )?--/, "")
	name[n] = $1
	sub(/\[=.*/, "", name[n]) # a value that need not be there
	if ($2 ~ /^\[?[A-Z][A-Z0-9=]*\]?$/)
		arg[n] = $2
	help[n] = $0
	sub(/^[^ ]+ +/, "", help[n])
	if (arg[n] != "")
		sub(/^[^ ]+ +/, "", help[n])
	if (match(help[n], /default [^ )]+/))
		value[n] = substr(help[n], RSTART + 8, RLENGTH - 8)
}

# What an option takes: "", if, file, words (perhaps), value (with a default), other
function kind(i) {
	if (arg[i] == "IF")
		return "if"
	if (arg[i] == "FILE")
		return "file"
	if (arg[i] ~ /^\[/)
		return "words"
	return arg[i] == "" ? "" : value[i] != "" ? "value" : "other"
}

# "-t | --timeout", the pattern of a case
function pattern(i) {
	return (letter[i] == "" ? "" : "-" letter[i] " | ") "--" name[i]
}

# All patterns of a kind
function patterns(what,    i, all) {
	for (i = 1; i <= n; i++)
		if (kind(i) == what)
			all = all (all == "" ? "" : " | ") pattern(i)
	return all
}

function bash(    i, options) {
	for (i = 1; i <= n; i++)
		options = options (i > 1 ? " " : "") (letter[i] == "" ? "" : "-" letter[i] " ") "--" name[i]
	print "# bash completion of nat64(8)"
	print "# shellcheck shell=bash"
	print "_nat64() {"
	print "\tlocal options='" options "'"
	print "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='' link"
	print ""
	print "\t# --option=value comes as three words."
	print "\tif [[ $cur == = ]]; then"
	print "\t\tcur=''"
	print "\telif [[ $prev == = && $COMP_CWORD -ge 2 ]]; then"
	print "\t\tprev=${COMP_WORDS[COMP_CWORD - 2]}"
	print "\tfi"
	print "\tcase $prev in"
	print "\t" patterns("if") ") for link in /sys/class/net/*; do words+=\" ${link##*/}\"; done ;;"
	print "\t" patterns("file") ") mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;"
	print "\t" patterns("words") ") words=\"" filter " $options\" ;;"
	for (i = 1; i <= n; i++)
		if (kind(i) == "value")
			print "\t" pattern(i) ") words='" value[i] "' ;;"
	print "\t" patterns("other") ") ;;"
	print "\t*) words=$options ;;"
	print "\tesac"
	print "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")"
	print "}"
	print "complete -F _nat64 nat64"
}

function escaped(text, char) {
	gsub("[" char "]", "\\" char, text)
	return text
}

function zsh(    i, text, takes, many) {
	print "#compdef nat64"
	print "_arguments -s \\"
	for (i = 1; i <= n; i++) {
		text = "[" escaped(help[i], ":") "]"
		takes = arg[i] == "" || kind(i) == "words" ? "" : ":" arg[i] ":"
		takes = takes (kind(i) == "if" ? "_net_interfaces" : kind(i) == "file" ? "_files" : \
			       kind(i) == "value" ? "(" escaped(value[i], ":") ")" : kind(i) == "other" ? " " : "")
		many = help[i] ~ /any number of times/ ? "*" : ""
		if (letter[i] == "")
			print "\t'" many "--" name[i] text takes "' \\"
		else
			print "\t'" (many != "" ? many : "(-" letter[i] " --" name[i] ")") "'{-" letter[i] ",--" name[i] "}'" \
				text takes "' \\"
	}
	print "\t'*:FILTER:(" filter ")'"
}

function fish(    i, takes) {
	print "# fish completion of nat64(8)"
	print "complete -c nat64 -f"
	for (i = 1; i <= n; i++) {
		takes = kind(i) == "if" ? " -x -a '(ls /sys/class/net)'" : kind(i) == "file" ? " -r -F" : \
			kind(i) == "value" ? " -x -a '" value[i] "'" : kind(i) == "other" ? " -x" : ""
		print "complete -c nat64" (letter[i] == "" ? "" : " -s " letter[i]) " -l " name[i] takes " -d '" help[i] "'"
		if (kind(i) == "words")
			print "complete -c nat64 -n '__fish_contains_opt " name[i] "' -a '" filter "'"
	}
}

END {
	filter = "and or not src dst host net port portrange proto tcp udp icmp ip ip6 6to4 4to6"
	if (!n)
		exit 1
	if (shell == "bash")
		bash()
	else if (shell == "zsh")
		zsh()
	else
		fish()
}
