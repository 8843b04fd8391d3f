package auth

import "unicode"

// Disguised reports whether a name has letters that directories pass over or
// take for others (RFC 4518), or that turn to ASCII in lower case: ann in them
// is ann to a directory and somebody else to the rules, or the other way round.
func Disguised(name string) bool {
	for _, r := range name {
		if r > '~' && (unicode.ToLower(r) <= '~' || unicode.In(r, unicode.Cf, compatible())) {
			return true
		}
	}
	return false
}

// compatible are letters that stand for others: accents by themselves,
// letterlike, styled, ligatures, of another width, blank.
func compatible() *unicode.RangeTable {
	return &unicode.RangeTable{
		R16: []unicode.Range16{{Lo: 0x300, Hi: 0x36f, Stride: 1}, {Lo: 0x115f, Hi: 0x1160, Stride: 1}, {Lo: 0x2000, Hi: 0x218b, Stride: 1}, {Lo: 0x2460, Hi: 0x24ff, Stride: 1},
			{Lo: 0x3164, Hi: 0x3164, Stride: 1}, {Lo: 0xfb00, Hi: 0xfb4f, Stride: 1}, {Lo: 0xfe00, Hi: 0xfe0f, Stride: 1}, {Lo: 0xff00, Hi: 0xffef, Stride: 1}},
		R32: []unicode.Range32{{Lo: 0x1d400, Hi: 0x1d7ff, Stride: 1}, {Lo: 0x1f100, Hi: 0x1f1ff, Stride: 1}},
	}
}
