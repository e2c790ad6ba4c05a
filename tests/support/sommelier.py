"""An occupation that is not bundled: 8 French ``in`` examples, no ``out``."""

from __future__ import annotations

from typing import Any

SOMMELIER: dict[str, Any] = {
    "id": "sommelier",
    "name": "Sommelier",
    "description": "Advises guests on wine in a restaurant, and keeps the cellar.",
    "prevalence": 0.01,
    "examples": [
        {"title": "Sommelier", "company": "Restaurant La Treille", "label": "in"},
        {
            "title": "Chef sommelière",
            "description": "Gestion d'une cave de 400 références, accords mets et vins.",
            "label": "in",
        },
        {"title": "Commis sommelier", "company": "Hôtel des Remparts", "label": "in"},
        {
            "title": "Sommelier-conseil",
            "description": "Carte des vins de trois établissements, formation des équipes.",
            "label": "in",
        },
        {
            "title": "Assistante sommelière",
            "description": "Service du vin, mise en place de la cave du jour, inventaires.",
            "label": "in",
        },
        {
            "title": "Sommelier",
            "description": "Dégustations, achats auprès des vignerons, menu gastronomique.",
            "label": "in",
        },
        {"text": "Premier sommelier, restaurant étoilé : sélection des crus", "label": "in"},
        {
            "title": "Caviste et sommelier",
            "description": "Conseil à la clientèle, constitution de la cave, soirées œnologiques.",
            "label": "in",
        },
    ],
}
