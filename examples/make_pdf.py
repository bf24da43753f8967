#!/usr/bin/env python3
"""Writes library/bob/garden/allotment-rules.pdf: two plain pages in a standard font, the same bytes
each time (no date, no id, no compression). Needs nothing beyond Python."""
import os
import textwrap

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "library/bob/garden/allotment-rules.pdf")

PAGES = [("Ostermere Allotments: the rules", """
Agreed by the plot holders on 21 October 2023. They replace the rules of 1997, which nobody could find.

1. Plots. There are 46 plots of ten rods each and nine half plots. A plot is let to one person for one year, from 29 September, and again each year unless somebody has a reason. The waiting list hangs in the hut. It had 17 names on it when this was written, and the wait was about two years and four months.

2. Rent. A full plot costs 48 pounds a year, a half plot 26, water included. Whoever has not paid by the end of November loses the plot to the next on the list.

3. Cultivation. Three quarters of a plot are to be dug, planted or covered by May. The secretary walks round in the first week of June. There is a friendly letter, then after six weeks a less friendly one, and then a new tenant. Illness is a reason; tell us, and somebody will hoe.

4. Water. The tanks are filled from the Lode by the pump between seven and nine in the morning. Hoses only in the tanks, never on the beds. No washing of tools or dogs in the tanks.
"""), ("Ostermere Allotments: the rules, continued", """
5. Fire. Bonfires from 1 November to the last day of February, after four in the afternoon, and never when the wind stands towards Eel Lane. Two persons must be present. Treated wood is not burned at all.

6. Sheds and glass. A shed may be up to six feet by eight, in a colour that does not hurt. Greenhouses need the consent of both neighbours.

7. Animals. Hens: no more than eight on a plot, and no cockerel. Bees: at most two colonies on a plot, thirty feet from the nearest path, entrance turned away from it; the keeper shows an insurance for third parties. Dogs on a lead. Mr Pell's dog on a short one.

8. Poisons. No slug pellets with metaldehyde. Whoever sprays tells the neighbours the day before and does not spray when anything is in flower.

9. Trees. Nothing that grows higher than ten feet. The damsons at the bottom are older than the rules and stay.

10. The key. Each plot holder has one key to the gate. A lost key costs 15 pounds, because all of the locks are alike and we have to trust each other.

11. Quarrels go to the secretary, Ivy Blackwood, plot 9, and from her to the meeting in October.
""")]


def escaped(line):
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def content(title, text):
    out = ["BT", "/F2 15 Tf", "72 770 Td", "(%s) Tj" % escaped(title), "/F1 11 Tf", "0 -30 Td", "15 TL"]
    for paragraph in text.strip().split("\n\n"):
        out += ["(%s) Tj T*" % escaped(line) for line in textwrap.wrap(paragraph, 84)]
        out.append("T*")
    return "\n".join(out + ["ET"]).encode("latin-1")


def main():
    kids = " ".join("%d 0 R" % (5 + 2 * i) for i in range(len(PAGES)))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>",
               b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids.encode(), len(PAGES)),
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman /Encoding /WinAnsiEncoding >>",
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Bold /Encoding /WinAnsiEncoding >>"]
    for i, (title, text) in enumerate(PAGES):
        stream = content(title, text)
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                       b"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>" % (6 + 2 * i))
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % o for o in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    with open(OUT, "wb") as f:
        f.write(out)


if __name__ == "__main__":
    main()
