# SPDX-License-Identifier: GPL-2.0
# From syscall_64.tbl: -v what=table gives __SYSCALL(nr, function) lines,
# -v what=numbers the __NR_ definitions.
/^[0-9]/ && ($2 == "common" || $2 == "64") {
	if (what == "numbers")
		print "#define __NR_" $3 " " $1
	else if ($4 != "")
		print "__SYSCALL(" $1 ", " $4 ")"
	if ($1 + 1 > count)
		count = $1 + 1
}
END {
	if (what == "numbers")
		print "#define __NR_syscalls " count
}
