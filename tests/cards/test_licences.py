"""The terms of licences, and what they mean for a dataset."""

from __future__ import annotations

import pytest

from fgbgpack.cards.licences import Terms, findings, group_by_licence, terms_of


class TestLicences:
    @pytest.mark.parametrize(
        ("stated", "name", "adaptations", "commercial", "alike"),
        [
            ("CC-BY-4.0", "CC-BY-4.0", True, True, False),
            ("cc by sa 3.0", "CC-BY-SA-3.0", True, True, True),
            ("CC BY-NC-ND 4.0", "CC-BY-NC-ND-4.0", False, False, False),
            ("https://creativecommons.org/licenses/by-nc/4.0/deed.de", "CC-BY-NC-4.0", True, False, False),
            ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", True, True, False),
            ("CC0", "CC0-1.0", True, True, False),
            ("MIT License", "MIT", True, True, False),
            ("https://spdx.org/licenses/Apache-2.0.html", "Apache-2.0", True, True, False),
            ("All rights reserved.", "All rights reserved.", False, True, False),
            ("Pexels licence", "Pexels licence", None, True, False),
        ],
    )
    def test_their_terms(self, stated, name, adaptations, commercial, alike):
        terms = terms_of(stated)
        found = (terms.name, terms.adaptations, terms.commercial, terms.share_alike)
        assert found == (name, adaptations, commercial, alike)

    @staticmethod
    def groups(backgrounds, foregrounds):
        return group_by_licence(backgrounds, foregrounds)

    def found(self, background, foreground):
        return findings(self.groups([background], [foreground]))

    def test_what_they_mean(self):
        assert self.found("CC0-1.0", "CC0") == [
            "All pictures are under licences that permit redistributing adaptations."
        ]
        assert "No licence is stated for any of the 2 pictures" in self.found(None, None)[0]
        assert "1 picture is under licences that do not permit" in self.found("CC-BY-ND-4.0", "MIT")[0]
        assert "terms are not known to fgbgpack" in self.found("Pexels licence", "MIT")[0]
        mixed = self.found("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0")
        assert any("may meet neither" in line for line in mixed)
        assert mixed[-1].startswith("Name the authors")

    def test_what_they_mean_for_pictures_that_were_imported(self):
        found = findings(group_by_licence(imported=[None, "CC-BY-ND-4.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"]))
        assert "nothing here permits redistributing them." in found[0]
        assert "redistributing adaptations: CC-BY-ND-4.0." in found[1]
        assert "These require different licences: keep each picture under its own." in found
        assert not any("composite" in line for line in found)

    def test_the_same_licence_is_counted_once(self):
        groups = self.groups(["CC0", None], ["CC0 1.0"])
        assert [(group.terms, group.backgrounds, group.foregrounds) for group in groups] == [
            (Terms("CC0-1.0", "CC0-1.0", adaptations=True), 1, 1),
            (None, 1, 0),
        ]
